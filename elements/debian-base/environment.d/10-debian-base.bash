export DISTRO_NAME=debian
export DIB_RELEASE=${DIB_RELEASE:-bookworm}
export DIB_INIT_SYSTEM=systemd
export EFI_BOOT_DIR=EFI/debian
export DIB_BASE_PACKAGES=${DIB_BASE_PACKAGES:-python3}
# The .deb files are kept between builds in the image cache.
export DIB_DISABLE_APT_CLEANUP=1
