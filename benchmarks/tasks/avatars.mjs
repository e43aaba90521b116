// Two domains of avatars: 32x32 PNG files on white, drawn by the styles of DiceBear.
//
//     npm install @dicebear/core@9 @dicebear/collection@9 @resvg/resvg-js@2
//     cp benchmarks/tasks/avatars.mjs . && node avatars.mjs avatars
//
// writes avatars/{train,test}-{avataaars,personas}: 4,000 and 2,000 files of each. The same seeds
// give the same files. Styles: avataaars by Pablo Stanley (free for personal and commercial use),
// personas by Draftbit (CC BY 4.0).
import fs from 'node:fs';
import path from 'node:path';
import { createAvatar } from '@dicebear/core';
import { avataaars, personas } from '@dicebear/collection';
import { Resvg } from '@resvg/resvg-js';

const SIZE = 32;
const STYLES = { avataaars, personas };
const COUNTS = { train: 4000, test: 2000 };
const target = process.argv[2];
if (!target) throw new Error('say where the pictures go: node avatars.mjs FOLDER');

for (const [part, count] of Object.entries(COUNTS))
  for (const [name, style] of Object.entries(STYLES)) {
    const folder = path.join(target, `${part}-${name}`);
    fs.mkdirSync(folder, { recursive: true });
    for (let i = 0; i < count; i++) {
      // No seed is shared between the domains: nothing in the data says what belongs together.
      const svg = createAvatar(style, { seed: `${part}-${name}-${i}`, size: SIZE }).toString();
      const drawn = new Resvg(svg, { background: 'white', fitTo: { mode: 'width', value: SIZE } });
      fs.writeFileSync(path.join(folder, `${String(i).padStart(5, '0')}.png`), drawn.render().asPng());
    }
    console.log(`${part}: ${count} pictures of ${name}`);
  }
