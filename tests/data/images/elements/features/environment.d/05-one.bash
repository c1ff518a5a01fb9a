export FEATURE_ORDER=one
export DISTRO_NAME=debian
export DIB_RELEASE=bookworm
