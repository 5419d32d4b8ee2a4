// Path templates: what they match and stand for, what is refused, and that no path makes them slow or wrong.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compileTemplate } from './uri-template.ts';

const matches = (template: string, path: string) => compileTemplate(template, '').test(path);

test('segments, rests and literals', () => {
  assert.ok(matches('/a/{x}', '/a/b') && !matches('/a/{x}', '/a/b/c') && !matches('/a/{x}', '/a/'));
  assert.ok(matches('/a/*', '/a/b') && !matches('/a/*', '/a'));
  assert.ok(!matches('/allow/admin/{p=**}', '/allow/admin') && matches('/allow/admin/{p=**}', '/allow/admin/'));
  assert.ok(matches('/store/**/cart', '/store//cart') && !matches('/store/**/cart', '/store/cart'));
  assert.ok(matches('/foo/{a}/bar/{b=**}', '/foo/x/bar/') && !matches('/foo/{a}/bar/{b=**}', '/foo//bar/x'));
  assert.ok(matches('/{x=**}.m3u8', '/a/b.m3u8') && !matches('/{x=**}.m3u8', '/a/b.mp4'));
  assert.ok(matches('/{v=a/*/c}/d', '/a/b/c/d') && matches('/', '/') && matches('/a/', '/a/'));
});

test('variables stand for what their segments took', () => {
  const rows: [string, string, readonly string[] | undefined][] = [
    ['/a/{x}/{y}.html', '/a/b/c.html', ['b', 'c']],
    ['/a/{r=**}/end/{e=z}', '/a/x/end/end/z', ['x/end', 'z']],
    ['/{r=a/**}.m3u8', '/a/b/c.m3u8', ['a/b/c']],
    ['/{v=a/*/c}/d', '/a/b/c/d', ['a/b/c']],
    ['/a/**', '/a/b/c', []],
    ['/a/{x}', '/b/x', undefined],
  ];
  for (const [template, path, values] of rows)
    assert.deepEqual(compileTemplate(template, '').capture(path), values, template);
});

test('what cannot be a template is refused with the reason', () => {
  const refused: [string, RegExp][] = [
    ['a/b', /Invalid pattern/],
    ['/a/{x}{y}', /Invalid suffix literal: "\{y\}"/],
    ['/a/{x=**}/{y=**}', /Glob after text glob/],
    ['/a/**/*', /Glob after text glob/],
    ['/{x}/{x}', /Repeated variable name: "x"/],
    ['/a/{1x}', /Invalid variable name: "1x"/],
    ['/a//b', /Invalid literal: ""/],
    ['/a/{x=}', /Empty variable match/],
    ['/a/{x', /Unmatched variable bracket/],
    ['/a b', /Invalid literal: "a b"/],
    ['/{a}/{b}/{c}/{d}/{e}/{f}', /Exceeded variable count limit \(5\)/],
    ['/a/{averyveryverylongname}', /Invalid variable name length/],
  ];
  for (const [template, reason] of refused) assert.throws(() => compileTemplate(template, 'p'), reason, template);
});

test('a template made of segments matches exactly the paths with those segments', () => {
  const segment = fc.string({ unit: fc.constantFrom('a', 'b', '-', '.', '1'), minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(
      fc.array(segment, { minLength: 1, maxLength: 6 }),
      fc.nat(),
      fc.array(segment, { maxLength: 6 }),
      (parts, at, other) => {
        const open = parts.map((part, i) => (i === at % parts.length ? '{v}' : part));
        const template = compileTemplate(`/${open.join('/')}`, '');
        assert.ok(template.test(`/${parts.join('/')}`));
        const fits =
          other.length === parts.length && other.every((part, i) => i === at % parts.length || part === parts[i]);
        assert.equal(template.test(`/${other.join('/')}`), fits);
      },
    ),
  );
});
