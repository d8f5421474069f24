// schema.mjs
//	JSON schemas out of the official client's types, and what judges with them. Requests are held to
//	the closed form (no field that the types do not have), answers to the open one (the service adds
//	fields without a new version).
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import formatsPlugin from 'ajv-formats';
import { createGenerator } from 'ts-json-schema-generator';

const addFormats = formatsPlugin.default ?? formatsPlugin;
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

// Returns the schema with every object open. `additionalProperties` that is a schema stays. Fields
// that the types call deprecated are those of versions before 2026-03-11: they need not be there.
function opened(schema) {
  if (Array.isArray(schema)) return schema.map(opened);
  if (schema === null || typeof schema !== 'object') return schema;
  const copy = {};
  for (const key in schema) {
    if (key !== 'additionalProperties' || schema[key] !== false) copy[key] = opened(schema[key]);
  }
  if (Array.isArray(copy.required) && copy.properties) {
    copy.required = copy.required.filter((name) => copy.properties[name]?.deprecated === undefined);
  }
  return copy;
}

const depth = (error) => error.instancePath.split('/').length;

// A union fails once for each of its members: the errors that lie deepest tell most.
function explain(errors) {
  const own = errors.filter((e) => e.keyword !== 'anyOf');
  // members of another `type` have nothing to say
  const best = own.some((e) => e.keyword !== 'const') ? own.filter((e) => e.keyword !== 'const') : own;
  const deepest = Math.max(...best.map(depth));
  const texts = best.filter((e) => depth(e) === deepest)
    .map((e) => `${e.instancePath || '/'} ${e.message}${e.params.additionalProperty ? ` (${e.params.additionalProperty})` : ''}`);
  return [...new Set(texts)].slice(0, 6).join('; ') || errors[0].message;
}

// The generator's errors carry its whole tree: only what they say is passed on.
function generate() {
  try {
    return createGenerator({
      path: here('./types.ts'), tsconfig: here('./tsconfig.json'), type: '*', skipTypeCheck: true,
    }).createSchema('*');
  } catch (e) {
    throw new Error(`no schema could be made of types.ts: ${e.message}`);
  }
}

export class Schemas {
  constructor() {
    const closed = generate();
    this.names = new Set(Object.keys(closed.definitions));
    this.closed = this.compiler(closed);
    this.open = this.compiler(opened(closed));
  }

  compiler(schema) {
    const ajv = new Ajv({ strict: false, allErrors: true, allowUnionTypes: true });
    addFormats(ajv);
    ajv.addSchema({ ...schema, $id: 'notion' });
    return ajv;
  }

  // Returns null, or what is wrong with the value. Throws when there is no such type: a judge that
  // does not know the law must not acquit.
  check(ajv, name, value) {
    const validate = this.names.has(name) ? ajv.getSchema(`notion#/definitions/${name}`) : undefined;
    if (!validate) throw new Error(`there is no type ${name}`);
    return validate(value) ? null : explain(validate.errors);
  }

  request(name, value) {
    return this.check(this.closed, name, value);
  }

  answer(name, value) {
    return this.check(this.open, name, value);
  }
}
