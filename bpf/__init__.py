"""The packet path: C text that lb.datapath compiles."""
