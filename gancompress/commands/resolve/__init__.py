"""From words to participants: which generator, discriminator, inputs and images a command means."""
