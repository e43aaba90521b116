#!/usr/bin/env bash
# Compress a generator of your own from the command line, without data: the teacher is the source.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
gancompress prune dcgan:build_generator --input 'z=normal(64,1,1)' \
    --discriminator dcgan:build_discriminator --target params=3x "$@"
