"""What all tests need."""

import pytest

# So that the assertions of the kits show the values that they compare.
pytest.register_assert_rewrite("dynalayer.testing")
