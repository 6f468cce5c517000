"""Each check against the real server of its protocol, and against every kind of bad one."""
