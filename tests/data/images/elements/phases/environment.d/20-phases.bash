export PHASES_NOTE=from-environment.d
