# Told by the builder: the partition table, and the type of the root's partition as systemd-repart calls it.
export BAREMETAL_DISK_LABEL=${BAREMETAL_DISK_LABEL:-gpt}
export BAREMETAL_ROOT_TYPE=${BAREMETAL_ROOT_TYPE:-root}
