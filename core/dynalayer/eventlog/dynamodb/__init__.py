"""The event log in a DynamoDB table, and the table's making. Needs boto3: the extra `dynalayer[dynamodb]`."""

from dynalayer.eventlog.dynamodb.log import DynamoDBEventLog
from dynalayer.eventlog.dynamodb.places import check_url, create_table, open_log
from dynalayer.eventlog.dynamodb.table import TableMade

__all__ = ["DynamoDBEventLog", "TableMade", "check_url", "create_table", "open_log"]
