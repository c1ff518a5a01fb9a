"""For all tests: hypothesis judges what code does, not how long a busy machine takes for it.

The gate tries the same inputs every time: a submission is not to fail for a surprise that an older change
brought. `./hack/test -- --hypothesis-profile=search tests/property` looks for new ones.
"""

from hypothesis import HealthCheck, settings

BUSY = (HealthCheck.too_slow,)
settings.register_profile("baremetal", deadline=None, derandomize=True, suppress_health_check=BUSY, database=None)
settings.register_profile("search", deadline=None, max_examples=2000, suppress_health_check=BUSY)
settings.load_profile("baremetal")
