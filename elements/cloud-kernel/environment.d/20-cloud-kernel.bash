# The lean-initrd element makes the initial ramdisk; without it Debian's tools do, when the kernel is installed.
export DIB_CLOUD_KERNEL=1
