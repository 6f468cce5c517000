"""The cluster of conf/cluster.toml in virtual machines, by `vagrant up`: the box, the machines, the trials."""
