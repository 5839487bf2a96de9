"""The operator as it is, but for how long it waits between two looks at what the cluster serves."""

import sys

from tunnel_operator.__main__ import main
from tunnel_operator.adapters import discovery

if __name__ == "__main__":
    discovery.ROUTES_SECONDS = 1
    sys.exit(main())
