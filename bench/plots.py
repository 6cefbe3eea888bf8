def packet(f): pass
