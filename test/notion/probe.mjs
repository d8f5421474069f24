// Asks the live service what its documents leave open, one question at a time, and prints the answers.
// What it prints holds no token. See probe.sh.

const base = process.env.NOTION_URL ?? 'https://api.notion.com'
const parent = (process.env.NOTION_PARENT.replace(/\?.*$/, '').replaceAll('-', '').match(/[0-9a-f]{32}$/i) ?? [])[0]
const headers = {
	Authorization: `Bearer ${process.env.NOTION_TOKEN}`,
	'Notion-Version': process.env.NOTION_VERSION ?? '2026-03-11',
	'Content-Type': 'application/json',
	'User-Agent': 'angles-probe',
}
if (!parent) {
	console.error('NOTION_PARENT holds no page id')
	process.exit(2)
}

async function call(method, path, body, extra = {}) {
	for (let attempt = 0; ; attempt++) {
		const answer = await fetch(base + path, {
			method, headers: { ...headers, ...extra }, body: body && JSON.stringify(body), redirect: 'manual',
		})
		const text = await answer.text()
		let json = null
		try {
			json = JSON.parse(text)
		} catch {
			// an answer that is no JSON is one of the things to find out
		}
		if ((answer.status === 429 || answer.status === 529) && attempt < 3) {
			const wait = Number(answer.headers.get('retry-after') ?? 5)
			console.log(`   (limited; waits ${wait} s)`)
			await new Promise(done => setTimeout(done, wait * 1000))
			continue
		}
		return { status: answer.status, json, text, headers: answer.headers }
	}
}

const text = content => [{ text: { content } }]
const title = content => ({ Name: { title: text(content) } })
const told = r => `${r.status} ${r.json?.code ?? ''} ${(r.json?.message ?? '').slice(0, 160)}`.trim()

let source
const page = async properties =>
	call('POST', '/v1/pages', { parent: { type: 'data_source_id', data_source_id: source }, properties })

const questions = {
	'who the token is': async () => {
		const r = await call('GET', '/v1/users/me')
		return `${r.status} ${r.json?.type} "${r.json?.name}"; Date header: ${r.headers.has('date')}`
	},
	'date: is a part of a minute kept?': async () => {
		const r = await page({ ...title('date'), When: { date: { start: '2026-11-01T10:20:30.456+00:00' } } })
		return r.json?.properties?.When?.date?.start ?? told(r)
	},
	'2000: UTF-16 units or code points? (1,001 emoji)': async () =>
		told(await page({ ...title('units'), Text: { rich_text: text('\u{1F9ED}'.repeat(1001)) } })),
	'2001 characters': async () => told(await page({ ...title('long'), Text: { rich_text: text('x'.repeat(2001)) } })),
	'100 pieces of 2000': async () => {
		const r = await page({ ...title('200,000'), Text: { rich_text: Array(100).fill(text('x'.repeat(2000))[0]) } })
		return `${told(r)}; ${r.json?.properties?.Text?.rich_text?.length ?? '-'} pieces come back`
	},
	'over 500 KB': async () => {
		const wide = Array(100).fill(text('\u4e16'.repeat(2000))[0])
		return told(await page({ ...title('big'), Text: { rich_text: wide } }))
	},
	'does a query see a new page at once?': async () => {
		const mark = `lag-${Date.now()}`
		const begin = performance.now()
		await page({ ...title(mark) })
		for (let n = 1; performance.now() - begin < 60000; n++) {
			const r = await call('POST', `/v1/data_sources/${source}/query`,
				{ filter: { property: 'Name', title: { equals: mark } } })
			if (r.json?.results?.length)
				return `after ${Math.round(performance.now() - begin)} ms, ${n} queries`
			await new Promise(done => setTimeout(done, 1000))
		}
		return 'not within 60 s'
	},
	'does a PATCH that changes nothing move last_edited_time?': async () => {
		const made = await page(title('no-op'))
		const before = made.json?.last_edited_time
		await new Promise(done => setTimeout(done, 61000))
		const r = await call('PATCH', `/v1/pages/${made.json?.id}`, { properties: title('no-op') })
		return `${before} -> ${r.json?.last_edited_time}`
	},
	'restore and edit in one PATCH': async () => {
		const made = await page(title('trash'))
		await call('PATCH', `/v1/pages/${made.json?.id}`, { in_trash: true })
		const r = await call('PATCH', `/v1/pages/${made.json?.id}`, { in_trash: false, properties: title('both') })
		return `${told(r)}; title "${r.json?.properties?.Name?.title?.[0]?.plain_text}"`
	},
	'edit in the trash': async () => {
		const made = await page(title('trash'))
		await call('PATCH', `/v1/pages/${made.json?.id}`, { in_trash: true })
		return told(await call('PATCH', `/v1/pages/${made.json?.id}`, { properties: title('edit') }))
	},
	'an unknown status option': async () => told(await page({ ...title('status'), State: { status: { name: 'Nonsense' } } })),
	'a select option in another case': async () => {
		await page({ ...title('case'), Choice: { select: { name: 'Urgent' } } })
		const r = await page({ ...title('case'), Choice: { select: { name: 'uRGENT' } } })
		return r.json?.properties?.Choice?.select?.name ?? told(r)
	},
	'a select option with a comma': async () => told(await page({ ...title('comma'), Choice: { select: { name: 'a, b' } } })),
	'two unknown properties': async () => told(await page({ ...title('x'), Nope: { number: 1 }, Neither: { number: 2 } })),
	'in_trash in a query': async () =>
		told(await call('POST', `/v1/data_sources/${source}/query`, { in_trash: true })),
	'an unknown version': async () => told(await call('GET', '/v1/users/me', undefined, { 'Notion-Version': '2031-01-01' })),
	'property names with % / and a new line': async () => {
		const r = await call('PATCH', `/v1/data_sources/${source}`,
			{ properties: { 'a % b': { number: {} }, 'a/b': { number: {} }, 'a\nb': { number: {} } } })
		return `${told(r)}; ${Object.keys(r.json?.properties ?? {}).filter(n => n.startsWith('a')).map(n => JSON.stringify(n))}`
	},
	'the id of a property after its type changes': async () => {
		const before = (await call('GET', `/v1/data_sources/${source}`)).json?.properties?.Text?.id
		const r = await call('PATCH', `/v1/data_sources/${source}`, { properties: { [before]: { url: {} } } })
		return `${before} -> ${r.json?.properties?.Text?.id} (${told(r)})`
	},
	'filter_properties on a create': async () => {
		const r = await call('POST', '/v1/pages?filter_properties=title',
			{ parent: { type: 'data_source_id', data_source_id: source }, properties: title('filtered') })
		return `${told(r)}; answers ${Object.keys(r.json?.properties ?? {})}`
	},
}

const made = await call('POST', '/v1/databases', {
	parent: { type: 'page_id', page_id: parent }, title: text('angles probe (may be deleted)'),
	initial_data_source: {
		properties: { Name: { title: {} }, Text: { rich_text: {} }, When: { date: {} }, Choice: { select: {} }, State: { status: {} } },
	},
})
source = made.json?.data_sources?.[0]?.id
if (!source) {
	console.error(`the database could not be made: ${told(made)}`)
	process.exit(1)
}
let failed = 0
for (const [question, ask] of Object.entries(questions)) {
	if (process.env.PROBE_QUICK && /last_edited_time/.test(question))
		continue
	try {
		console.log(`${question}\n   ${await ask()}`)
	} catch (error) {
		failed++
		console.log(`${question}\n   no answer: ${error.message}`)
	}
}
const gone = await call('PATCH', `/v1/databases/${made.json.id}`, { in_trash: true })
console.log(`the database is in the trash\n   ${told(gone)}`)
process.exit(failed || gone.status !== 200 ? 1 : 0)
