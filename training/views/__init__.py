"""The pages of rounds, policies and projects, with their forms and charts."""
