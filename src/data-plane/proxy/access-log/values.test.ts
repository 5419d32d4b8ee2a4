// Properties of what formats print: any bytes make JSON that can be read, any format of time makes a text, any number reads back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonValue } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { formatMistake } from '../../../base/envoy-api/command-operators.ts';
import { HeaderMap, headerName, utf8Bytes } from '../http/header-map.ts';
import { StreamInfo } from '../http/stream-info.ts';
import { CONNECTION } from '../testing/filters.ts';
import { compileFormat } from './format.ts';
import { jsonFormat } from './json-format.ts';
import { compileTime } from './time-format.ts';
import { jsonBytes, numberText, structureJson } from './values.ts';
import { xfccPart } from './xfcc-operator.ts';

const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array).toString('latin1'));
const read = (json: string): unknown => JSON.parse(Buffer.from(json, 'latin1').toString());

test('any bytes: JSON that says them, as text where they are text', () => {
  fc.assert(
    fc.property(bytes, (value) => {
      const said = read(`"${jsonBytes(value)}"`);
      const text = Buffer.from(value, 'latin1').toString();
      const valid = Buffer.from(text).equals(Buffer.from(value, 'latin1'));
      assert.equal(said, valid ? text : value);
      assert.ok(!/[\0-\x1f]/.test(jsonBytes(value)), 'no line break gets into a line');
    }),
  );
});

test('any structure and any number read back as they were', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.deepEqual(read(structureJson(value as JsonValue)), value);
    }),
  );
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      assert.ok(Object.is(Number(numberText(value)), value), `${value}: ${numberText(value)}`);
    }),
  );
});

test('any format of time is printed or refused for its line break', () => {
  const piece = fc.oneof(
    fc.string({ maxLength: 3 }),
    fc.constantFrom('%', '%E', '%3', '%-', '%_5', '%0', '%:', '%E*', '%10'),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.double({ min: 0, max: 4e12, noNaN: true }), (parts, at) => {
      const format = parts.join('');
      const print = compileTime(format, false);
      if (print) assert.equal(typeof print(at), 'string');
      else assert.match(format, /%.*n/s);
    }),
  );
});

test('any header of certificates is read to an end, and what was put in is found', () => {
  fc.assert(fc.property(bytes, (header) => void xfccPart(header, 'uri')));
  fc.assert(
    fc.property(fc.string(), (value) => {
      const header = `By=a;URI="${value.replaceAll(/["\\]/g, '\\$&')}";Hash=1,URI=other`;
      assert.equal(xfccPart(header, 'uri'), value);
    }),
  );
});

test('whatever a client sends stays within one line of JSON, and is cut where told', () => {
  const line = jsonFormat({ a: '%REQ(x)%', b: '<%REQ(x):3%>', c: '%QUERY_PARAM(q)%' }, false, undefined, '');
  fc.assert(
    fc.property(bytes, (value) => {
      const info = new StreamInfo(CONNECTION, 0);
      info.requestHeaders = new HeaderMap();
      info.requestHeaders.add(headerName('x'), value);
      info.path = `/?q=${[...value].map((char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`).join('')}`;
      const text = line(info);
      assert.equal(text.indexOf('\n'), text.length - 1);
      const { a, b, c } = read(text) as Record<string, string>;
      assert.equal(a, c);
      assert.ok(b!.startsWith('<'));
    }),
  );
});

test('what admission lets through, the proxy compiles', () => {
  const name = fc.constantFrom(
    'REQ',
    'START_TIME',
    'FILTER_STATE',
    'COMMON_DURATION',
    'XFCC_VALUE',
    'PATH',
    'METADATA',
  );
  const argument = fc.oneof(
    fc.constantFrom(
      '',
      'a',
      'a?b',
      'a:PLAIN',
      'a:FIELD:b',
      'a:FIELD',
      'x:y:ns',
      'x:y:z',
      'uri',
      'NQ:ORIG',
      'ROUTE',
      '%n',
      '%6f',
    ),
    fc.string({ maxLength: 6 }),
  );
  fc.assert(
    fc.property(name, argument, fc.constantFrom('', ':3', ':99999999999999999999'), (operator, param, length) => {
      const text = `%${operator}(${param})${length}%`;
      if (formatMistake(text) === undefined) assert.doesNotThrow(() => compileFormat(utf8Bytes(text), ''), text);
    }),
    { numRuns: 1_000 },
  );
});
