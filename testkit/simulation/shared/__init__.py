"""Several servers on one store in a simulated world: killed, frozen and cut off one by one."""
