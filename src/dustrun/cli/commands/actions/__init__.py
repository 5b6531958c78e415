"""Commands about single actions: to run one, and to begin writing one."""
