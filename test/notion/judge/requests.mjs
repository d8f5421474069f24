// requests.mjs
//	Which of the client's types a request on the wire belongs to, and whether it keeps to it. A
//	request is judged as the client would be given it: the ids of the path, the query and the body
//	as one object.
const ID = '([^/]+)';

const ROUTES = [
  ['GET', 'users/me', 'ReqGetSelf', 'ResUser'],
  ['GET', 'users', 'ReqListUsers', 'ResUsers'],
  ['GET', `users/${ID}`, 'ReqGetUser', 'ResUser', 'user_id'],
  ['POST', 'databases', 'ReqCreateDatabase', 'ResDatabase'],
  ['GET', `databases/${ID}`, 'ReqGetDatabase', 'ResDatabase', 'database_id'],
  ['PATCH', `databases/${ID}`, 'ReqUpdateDatabase', 'ResDatabase', 'database_id'],
  ['POST', 'data_sources', 'ReqCreateDataSource', 'ResDataSource'],
  ['GET', `data_sources/${ID}`, 'ReqGetDataSource', 'ResDataSource', 'data_source_id'],
  ['PATCH', `data_sources/${ID}`, 'ReqUpdateDataSource', 'ResDataSource', 'data_source_id'],
  ['POST', `data_sources/${ID}/query`, 'ReqQueryDataSource', 'ResQuery', 'data_source_id'],
  ['GET', `data_sources/${ID}/templates`, 'ReqListTemplates', 'ResTemplates', 'data_source_id'],
  ['POST', 'pages', 'ReqCreatePage', 'ResPage'],
  ['GET', `pages/${ID}`, 'ReqGetPage', 'ResPage', 'page_id'],
  ['PATCH', `pages/${ID}`, 'ReqUpdatePage', 'ResPage', 'page_id'],
  ['POST', `pages/${ID}/move`, 'ReqMovePage', 'ResPage', 'page_id'],
  ['GET', `pages/${ID}/properties/${ID}`, 'ReqGetPageProperty', 'ResPageProperty', 'page_id', 'property_id'],
  ['GET', `pages/${ID}/markdown`, 'ReqGetMarkdown', 'ResMarkdown', 'page_id'],
  ['PATCH', `pages/${ID}/markdown`, 'ReqUpdateMarkdown', 'ResMarkdown', 'page_id'],
  ['POST', 'search', 'ReqSearch', 'ResSearch'],
  ['GET', `blocks/${ID}`, 'ReqGetBlock', 'ResBlock', 'block_id'],
  ['DELETE', `blocks/${ID}`, 'ReqDeleteBlock', 'ResBlock', 'block_id'],
  ['GET', `blocks/${ID}/children`, 'ReqListChildren', 'ResBlocks', 'block_id'],
  ['PATCH', `blocks/${ID}/children`, 'ReqAppendChildren', 'ResBlocks', 'block_id'],
  ['POST', 'comments', 'ReqCreateComment', 'ResComment'],
  ['GET', 'comments', 'ReqListComments', 'ResComments'],
  ['GET', `comments/${ID}`, 'ReqGetComment', 'ResComment', 'comment_id'],
].map(([method, path, request, answer, ...params]) => ({
  method, pattern: new RegExp(`^/v1/${path}$`), request, answer, params,
}));

const LISTS = new Set(['filter_properties']);
const NUMBERS = new Set(['page_size']);

// Returns {request, answer, params} of the endpoint, null when there is none.
export function endpointOf(method, path) {
  for (const route of ROUTES) {
    if (route.method !== method) continue;
    const m = route.pattern.exec(path);
    if (m) return { ...route, values: m.slice(1) };
  }
  return null;
}

function readQuery(query, into) {
  for (const [name, value] of new URLSearchParams(query)) {
    const key = name.replace(/\[\]$/, '');
    if (LISTS.has(key)) (into[key] ??= []).push(value);
    else into[key] = NUMBERS.has(key) ? Number(value) : value;
  }
}

// Returns null for a request that keeps to the types, else what is wrong with it. `entry` is a line
// of the simulator's record: {method, path, query, body}.
export function judgeRequest(schemas, entry) {
  const endpoint = endpointOf(entry.method, entry.path);
  if (!endpoint) return 'the client has no such endpoint';
  const given = {};
  endpoint.params.forEach((name, i) => {
    given[name] = endpoint.values[i];
  });
  readQuery(entry.query ?? '', given);
  const body = entry.body ?? null;
  if (entry.method === 'GET' || entry.method === 'DELETE') {
    if (body !== null) return 'a body where none belongs';
  } else {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) return 'the body is no JSON object';
    for (const name in body) {
      if (name in given) return `${name} stands in the body and in the path or query`;
      given[name] = body[name];
    }
  }
  const { headers } = entry;
  if (headers && headers.authorization !== true) return 'there is no token';
  if (headers && headers['notion-version'] === undefined) return 'there is no version';
  return schemas.request(endpoint.request, given);
}
