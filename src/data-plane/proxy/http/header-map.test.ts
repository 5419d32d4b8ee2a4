// The header map against a plain list of pairs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HeadInfo, parseRequestHead } from './h1-head.ts';
import { HeaderMap, headerName, utf8Bytes } from './header-map.ts';

const names = ['x-a', 'x-b', 'host', 'via'];
const action = fc.record({
  what: fc.constantFrom('add', 'set', 'remove', 'setIfAbsent', 'removePrefix'),
  name: fc.constantFrom(...names),
  value: fc.string({ unit: fc.constantFrom('a', 'b', ' ', ','), maxLength: 4 }).map((value) => value.trim()),
});

test('edits do what a list would do, and writing shows the same', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom(...names, 'X-A', 'Via'), fc.constantFrom(':', ': ', ':  ', ': ')), {
        maxLength: 6,
      }),
      fc.array(action, { maxLength: 12 }),
      (lines, actions) => {
        const head = Buffer.from(
          `GET / HTTP/1.1\r\n${lines.map(([name, colon], i) => `${name}${colon}v${i}\r\n`).join('')}\r\n`,
        );
        const map = new HeaderMap();
        map.load(head, 0, head.length);
        assert.equal(parseRequestHead(map, head.length, new HeadInfo(), 100), undefined);
        let model: [string, string][] = lines.map(([name], i) => [name.toLowerCase(), `v${i}`]);
        for (const { what, name, value } of actions) {
          const header = headerName(name);
          const has = model.some(([known]) => known === name);
          assert.equal(map.has(header), has);
          if (what === 'removePrefix') {
            map.removePrefix('x-');
            model = model.filter(([known]) => !known.startsWith('x-'));
            continue;
          }
          if (what === 'add') map.add(header, value);
          else if (what === 'set') map.set(header, value);
          else if (what === 'setIfAbsent') map.setIfAbsent(header, value);
          else map.remove(header);
          if (what === 'remove' || what === 'set') model = model.filter(([known]) => known !== name);
          if (what === 'add' || what === 'set' || (what === 'setIfAbsent' && !has)) model.push([name, value]);
        }
        const seen: [string, string][] = [];
        map.forEach((name, value) => void seen.push([name, value]));
        assert.deepEqual(seen, model);
        for (const name of names) {
          const all = model.filter(([known]) => known === name).map(([, value]) => value);
          assert.equal(map.get(headerName(name)), all[0]);
          assert.equal(map.getAll(headerName(name)), all.length === 0 ? undefined : all.join(','));
        }
        const out = Buffer.alloc(map.writtenSize());
        assert.equal(
          out.toString('latin1', 0, map.write(out, 0)),
          model.map(([name, value]) => `${name}: ${value}\r\n`).join(''),
        );
      },
    ),
    { numRuns: 1000 },
  );
});

test('a value cannot split the head', () => {
  const map = new HeaderMap();
  map.add(headerName('x'), 'a\r\nevil: 1\0');
  const out = Buffer.alloc(100);
  assert.equal(out.toString('latin1', 0, map.write(out, 0)), 'x: a  evil: 1 \r\n');
});

test('a thousand headers fit', () => {
  const head = Buffer.from(
    `GET / HTTP/1.1\r\n${Array.from({ length: 1000 }, (_, i) => `h${i}: ${i}\r\n`).join('')}\r\n`,
  );
  const map = new HeaderMap();
  map.load(head, 0, head.length);
  assert.equal(parseRequestHead(map, head.length, new HeadInfo(), 1000), undefined);
  assert.equal(map.get(headerName('h999')), '999');
  map.clear();
  assert.equal(map.get(headerName('h999')), undefined);
});

test('a map that is used again shows nothing of the message before', () => {
  const map = new HeaderMap();
  map.add(headerName('a'), '1');
  map.add(headerName('b'), '2');
  map.clear();
  map.add(headerName('c'), '3');
  const seen: string[] = [];
  map.forEach((name, value) => {
    seen.push(`${name}: ${value}`);
  });
  assert.deepEqual(seen, ['c: 3']);
  const out = Buffer.alloc(200);
  assert.equal(out.toString('latin1', 0, map.write(out, 0)), 'c: 3\r\n');
});

test('no character turns into a line break when its value is written, and texts keep their UTF-8 bytes', () => {
  // Their low bytes are CR and LF.
  const forged = 'a\u010d\u010ax-admin: yes';
  for (const value of [forged, forged.padStart(100, 'b')]) {
    for (const proper of [false, true]) {
      const map = new HeaderMap();
      map.add(headerName('x-a'), value);
      map.add(headerName('x-b'), utf8Bytes(value));
      const out = Buffer.alloc(map.writtenSize());
      const lines = out.toString('utf8', 0, map.write(out, 0, proper)).split(/[\r\n]+/);
      assert.equal(lines.length, 3);
      assert.equal(lines[1]!.slice(5), value);
    }
  }
});
