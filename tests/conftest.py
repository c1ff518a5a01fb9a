"""For all tests: hypothesis judges what code does, not how long a busy machine takes for it."""

from hypothesis import settings

settings.register_profile("baremetal", deadline=None)
settings.load_profile("baremetal")
