"""Evaluation: sample n completions per problem, verify them, estimate Pass@k with intervals. Import the modules."""
