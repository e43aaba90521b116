"""Real runs of the tasks: data, teacher, student, figures."""
