/** A cURL command as the settings of an HTTP request. Pure. What looks like a secret is left out and named. */
import type { Json } from '../api/client'
import { isSecret, isSecretName, withoutSecrets } from './secrets'

export type Curl = { payload: Json; leftOut: string[] }
/** Options without a value that change nothing here. */
const PLAIN = new Set(['-s', '-S', '-k', '-i', '-v', '-f', '-L', '-g', '-N', '--compressed', '--silent', '--location'])
const QUOTED: Record<string, string> = { n: '\n', t: '\t', r: '\r' }

/** The words of a shell command: quotes, `$'…'`, and lines that go on after a backslash. */
export function wordsOf(text: string): string[] {
  const found: string[] = []
  let word = ''
  let has = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string
    if (c === '\\') {
      i += 1
      if (text[i] === '\r') i += 1
      if (text[i] !== '\n') word += text[i] ?? ''
      has = has || text[i] !== '\n'
    } else if (c === "'" || c === '"' || (c === '$' && text[i + 1] === "'")) {
      const isEscaped = c !== "'"
      if (c === '$') i += 1
      const end = text[i] as string
      has = true
      for (i += 1; i < text.length && text[i] !== end; i++) {
        if (text[i] === '\\' && isEscaped) {
          i += 1
          const escaped = text[i] ?? ''
          word += c === '$' ? (QUOTED[escaped] ?? escaped) : '"\\$`'.includes(escaped) ? escaped : `\\${escaped}`
        } else word += text[i]
      }
    } else if (/\s/.test(c)) {
      if (has || word) found.push(word)
      word = ''
      has = false
    } else word += c
  }
  if (has || word) found.push(word)
  return found
}

type Read = {
  url: string
  method: string
  headers: Json
  data: string[]
  form: Json
  leftOut: string[]
  isGet: boolean
}

/** The request; null where the text is no cURL command that can be read. */
export function readCurl(text: string, parse: (text: string) => unknown): Curl | null {
  const words = wordsOf(text.trim())
  if (words[0] !== 'curl') return null
  const read: Read = { url: '', method: '', headers: {}, data: [], form: {}, leftOut: [], isGet: false }
  for (let i = 1; i < words.length; i++) i += take(read, words[i] as string, words[i + 1] ?? '')
  if (!/^https?:\/\//i.test(read.url)) read.url = read.url ? `https://${read.url}` : ''
  if (!read.url) return null
  return { payload: payloadOf(read, parse), leftOut: read.leftOut }
}

/** Reads one option; says how many words after it belong to it. */
function take(read: Read, word: string, next: string): number {
  const joined = word.match(/^(--[a-z-]+)=([\s\S]*)$/)
  if (joined) {
    take(read, joined[1] as string, joined[2] as string)
    return 0
  }
  const short = word.match(/^-([XHdFu])([\s\S]+)$/)
  if (short) {
    take(read, `-${short[1]}`, short[2] as string)
    return 0
  }
  if (word === '-X' || word === '--request') read.method = next.toUpperCase()
  else if (word === '-H' || word === '--header') header(read, next)
  else if (/^(-d|--data(-raw|-binary|-ascii|-urlencode)?)$/.test(word)) read.data.push(next)
  else if (word === '--json') {
    read.data.push(next)
    read.headers['content-type'] = 'application/json'
  } else if (word === '-F' || word === '--form') field(read.form, next)
  else if (word === '-u' || word === '--user') read.leftOut.push('user and password')
  else if (word === '-b' || word === '--cookie') read.leftOut.push('cookie')
  else if (word === '-A' || word === '--user-agent') read.headers['user-agent'] = next
  else if (word === '--url') read.url = next
  else if (word === '-G' || word === '--get') {
    read.isGet = true
    return 0
  } else if (word === '-I' || word === '--head') {
    read.method = 'HEAD'
    return 0
  } else if (PLAIN.has(word) || /^-[skivfLgNS]+$/.test(word)) return 0
  else if (!word.startsWith('-')) {
    read.url ||= word
    return 0
  }
  return 1
}

function header(read: Read, text: string) {
  const at = text.indexOf(':')
  const name = (at < 0 ? text : text.slice(0, at)).trim()
  const value = text.slice(at + 1).trim()
  if (isSecret(value, isSecretName(name))) read.leftOut.push(name)
  else if (at > 0) read.headers[name.toLowerCase()] = value
}

/** The address without a user, and without what its query names or shows as secret. */
function address(text: string, leftOut: string[]): string {
  const [whole, query] = text.split(/\?([\s\S]*)/, 2) as [string, string?]
  const bare = whole.replace(/(:\/\/)[^/?#@]*@/, '$1')
  if (bare !== whole) leftOut.push('user and password')
  const kept = query?.split('&').filter((pair) => {
    const [name = '', value = ''] = pair.split('=', 2)
    const isOne = isSecret(value, isSecretName(name)) || isSecret(`?${pair}`, false)
    if (isOne) leftOut.push(name)
    return !isOne
  })
  return kept?.length ? `${bare}?${kept.join('&')}` : bare
}

function field(form: Json, text: string) {
  const at = text.indexOf('=')
  if (at > 0) form[text.slice(0, at)] = text.slice(at + 1)
}

function payloadOf(read: Read, parse: (text: string) => unknown): Json {
  const data = read.data.join('&')
  const payload: Json = {
    url: address(
      read.isGet && data ? `${read.url}${read.url.includes('?') ? '&' : '?'}${data}` : read.url,
      read.leftOut,
    ),
  }
  const hasBody = !read.isGet && (read.data.length > 0 || Object.keys(read.form).length > 0)
  const method = read.method || (hasBody ? 'POST' : 'GET')
  if (method !== 'GET') payload.method = method
  const { 'content-type': type, ...headers } = read.headers
  const json = hasBody && data ? asJson(data, parse) : undefined
  if (json !== undefined) payload.json = json
  else if (hasBody && !data) payload.form = read.form
  else if (hasBody) payload.body = data
  const kept = json === undefined && type !== undefined ? { ...headers, 'content-type': type } : headers
  if (Object.keys(kept).length) payload.headers = kept
  return withoutSecrets(payload, isSecretName, (path) => read.leftOut.push(path)) as Json
}

function asJson(text: string, parse: (text: string) => unknown): unknown {
  try {
    const value = parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}
