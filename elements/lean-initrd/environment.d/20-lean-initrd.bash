# Debian's kernel hook leaves the initial ramdisk to us: its run costs 5 CPU seconds a time.
export INITRD=No
export DIB_LEAN_INITRD_MODULES=${DIB_LEAN_INITRD_MODULES:-virtio_pci virtio_blk virtio_scsi sd_mod ata_piix ahci nvme $FS_TYPE}
