#!/bin/bash
set -eu
echo install.d/50-a.sh >> /etc/order
