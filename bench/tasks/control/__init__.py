"""Control: tasks are movements, and good is what a policy achieves when it is let loose."""
