# Debian's kernel hook makes none while packages are installed; post-install.d does it once. Others may have said No already.
if [ "${INITRD:-}" != No ]; then
    export INITRD=No DIB_ONE_INITRD=1
fi
