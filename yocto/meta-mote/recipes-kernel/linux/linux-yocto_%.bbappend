inherit_defer ${@bb.utils.contains('DISTRO_FEATURES', 'mote', 'mote-kernel', '', d)}
