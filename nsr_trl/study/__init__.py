"""What the objectives do to Pass@k in a small world, and when: a study that runs on a CPU in under a minute."""
