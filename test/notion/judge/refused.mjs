// refused.mjs
//	What the judge must refuse: if one of these passes, its "ok" is worth nothing.
import assert from 'node:assert/strict';
import { judgeError } from './client.mjs';
import { judgeRequest } from './requests.mjs';

const ID = '0e5f22ea-c460-4846-9628-c92de2e07e8b';
const create = (properties, more = {}) => ({
  method: 'POST', path: '/v1/pages', body: { parent: { type: 'data_source_id', data_source_id: ID }, properties, ...more },
});
const query = (body) => ({ method: 'POST', path: `/v1/data_sources/${ID}/query`, body });
const wire = (value) => JSON.parse(JSON.stringify(value));

// First the good twin must pass, then the bad one must not.
const refuse = (good, bad, pattern) => (schemas) => {
  assert.equal(judgeRequest(schemas, wire(good)), null);
  assert.match(String(judgeRequest(schemas, wire(bad))), pattern);
};

export const numberAsString = refuse(create({ A: { number: 1 } }), create({ A: { number: '1' } }), /number/);
export const titleAsString = refuse(create({ A: { title: [{ text: { content: 'x' } }] } }), create({ A: { title: 'x' } }), /array/);
export const checkboxAsWord = refuse(create({ A: { checkbox: true } }), create({ A: { checkbox: 'yes' } }), /boolean/);
export const unknownField = refuse(create({}), create({}, { colour: 'red' }), /colour/);
export const unknownParent = refuse(create({}), { ...create({}), body: { parent: { table_id: ID }, properties: {} } }, /./);
export const selectAsString = refuse(create({ A: { select: { name: 'x' } } }), create({ A: { select: 'x' } }), /object/);
export const relationAsId = refuse(create({ A: { relation: [{ id: ID }] } }), create({ A: { relation: [ID] } }), /object/);
export const dateWithoutStart = refuse(create({ A: { date: { start: '2026-11-01' } } }), create({ A: { date: { end: '2026-11-01' } } }), /start/);
export const unknownValueType = refuse(create({ A: { url: 'x' } }), create({ A: { link: 'x' } }), /./);
export const badDirection = refuse(query({ sorts: [{ timestamp: 'created_time', direction: 'ascending' }] }),
  query({ sorts: [{ timestamp: 'created_time', direction: 'up' }] }), /allowed/);
export const pageSizeAsString = refuse(query({ page_size: 10 }), query({ page_size: '10' }), /number/);
export const sortsAsObject = refuse(query({ sorts: [] }), query({ sorts: {} }), /array/);
export const filterWithWrongOperand = refuse(query({ filter: { property: 'A', number: { equals: 1 } } }),
  query({ filter: { property: 'A', number: { equals: 'one' } } }), /./);
export const timestampWithTwoNames = refuse(
  query({ filter: { timestamp: 'created_time', created_time: { on_or_after: '2026-11-01' } } }),
  query({ filter: { timestamp: 'made', made: { on_or_after: '2026-11-01' } } }), /./);
export const bodyOfGet = refuse({ method: 'GET', path: '/v1/users/me', body: null }, { method: 'GET', path: '/v1/users/me', body: {} }, /body/);
export const unknownPath = refuse({ method: 'GET', path: `/v1/pages/${ID}`, body: null },
  { method: 'GET', path: `/v1/rows/${ID}`, body: null }, /endpoint/);
export const legacyQuery = refuse(query({}), { ...query({}), path: `/v1/databases/${ID}/query` }, /endpoint/);
export const noVersionHeader = refuse({ ...query({}), headers: { authorization: true, 'notion-version': '2026-03-11' } },
  { ...query({}), headers: { authorization: true } }, /version/);
export const noToken = refuse({ ...query({}), headers: { authorization: true, 'notion-version': '2026-03-11' } },
  { ...query({}), headers: { authorization: false, 'notion-version': '2026-03-11' } }, /token/);

const user = { object: 'user', id: ID };
const page = {
  object: 'page', id: ID, created_time: '2026-11-01T10:02:00.000Z', last_edited_time: '2026-11-01T10:02:00.000Z', in_trash: false,
  is_archived: false, is_locked: false, url: 'https://app.notion.com/p/x', public_url: null, parent: { type: 'page_id', page_id: ID },
  properties: { A: { id: 'a', type: 'number', number: 1 } }, icon: null, cover: null, created_by: user, last_edited_by: user,
};
const list = (results) => ({
  object: 'list', results, next_cursor: null, has_more: false, type: 'page_or_data_source', page_or_data_source: {},
});

const refuseAnswer = (name, good, bad, pattern) => (schemas) => {
  assert.equal(schemas.answer(name, good), null);
  assert.match(String(schemas.answer(name, bad)), pattern);
};

export const pageWithoutProperties = refuseAnswer('ResPage', page, { ...page, properties: undefined }, /./);
export const pageWithoutTrash = refuseAnswer('ResPage', page, (({ in_trash, ...rest }) => rest)(page), /in_trash/);
export const pageWithBadValue = refuseAnswer('ResPage', page, { ...page, properties: { A: { id: 'a', type: 'number', number: '1' } } }, /number/);
export const valueWithoutId = refuseAnswer('ResPage', page, { ...page, properties: { A: { type: 'number', number: 1 } } }, /required/);
export const listOfPartialPages = refuseAnswer('ResQuery', list([page]), list([{ object: 'page', id: ID }]), /./);
export const listWithoutHasMore = refuseAnswer('ResQuery', list([]), { ...list([]), has_more: undefined }, /has_more/);
export const databaseAsPage = refuseAnswer('ResPage', page, { ...page, object: 'database' }, /./);
export const newFieldsAreTolerated = (schemas) => assert.equal(schemas.answer('ResPage', { ...page, new_field: 1 }), null);
export const unknownTypeOfTheJudge = (schemas) => assert.throws(() => schemas.answer('ResNothing', {}), /no type/);

const event = {
  id: ID, timestamp: '2026-11-01T10:09:12.345Z', workspace_id: ID, workspace_name: 'w', subscription_id: ID, integration_id: ID,
  type: 'page.properties_updated', authors: [{ id: ID, type: 'person' }], attempt_number: 1, api_version: '2026-03-11',
  entity: { id: ID, type: 'page' }, data: { parent: { id: ID, type: 'database', data_source_id: ID }, updated_properties: ['a'] },
};

export const eventOfNoKind = refuseAnswer('Event', event, { ...event, type: 'page.painted' }, /./);
export const eventWithoutProperties = refuseAnswer('Event', event, { ...event, data: { parent: event.data.parent } }, /./);
export const eventByNobody = refuseAnswer('Event', event, { ...event, authors: [{ id: ID, type: 'ghost' }] }, /./);

const error = { object: 'error', status: 429, code: 'rate_limited', message: 'm', request_id: ID, additional_data: { retry_after: '1' } };

export function errorBodies() {
  assert.equal(judgeError(429, error), null);
  assert.match(judgeError(400, error), /differ/);
  assert.match(judgeError(429, { ...error, code: 'slow' }), /unknown/);
  assert.match(judgeError(429, { ...error, request_id: undefined }), /request_id/);
  assert.match(judgeError(429, { ...error, additional_data: { retry_after: 1 } }), /strings/);
}
