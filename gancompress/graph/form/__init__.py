"""The graph form: a generator as a ``torch.export`` graph, whose written sizes can change."""
