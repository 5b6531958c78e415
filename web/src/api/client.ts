/** The one way to the server: typed by its OpenAPI document, exact in its numbers, errors as they were said. */
import { words } from '../words'
import { parse, stringify } from './exact'
import { needsPresence, showPresence } from './presence'
import { doubt, heard } from './reach'
import type { components, paths } from './schema'

export type Schemas = components['schemas']
export type Json = Record<string, unknown>

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'
type Ok<T> = T extends { responses: infer R }
  ? R extends Record<200, { content: { 'application/json': { data: infer D } } }>
    ? Exclude<D, Schemas['Unread']> // the app changes only what it has read, so its answers are whole
    : unknown
  : never
type Body<T> = T extends { requestBody?: infer B }
  ? NonNullable<B> extends { content: { 'application/json': infer J } }
    ? J
    : undefined
  : undefined
type PathsOf<M extends Method> = { [P in keyof paths]: paths[P] extends Record<M, object> ? P : never }[keyof paths]
export type Data<P extends keyof paths, M extends Method> = M extends keyof paths[P] ? Ok<paths[P][M]> : never
/** `key`: the caller's own key, for what a session may not do; no cookie goes with it. */
type Place = {
  path?: Record<string, string | number>
  query?: Record<string, unknown>
  signal?: AbortSignal
  key?: string
}

/** An answer that says no. `code` is the HTTP status followed by three digits. */
export class ApiError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly details: { field?: string; message?: string }[] = [],
    readonly requestId = '',
  ) {
    super(message)
  }

  get status() {
    return Math.floor(this.code / 1000)
  }
}

/** Told when the session has ended, so that the app can ask for a new one. */
export const onSignedOut: { current: () => void } = { current: () => {} }

// Cookies ignore ports, so two servers on one host would mix them up; this storage belongs to one server alone.
const CSRF = 'dustrun-csrf'
const csrfToken = () =>
  localStorage.getItem(CSRF) ?? document.cookie.match(/(?:^|; )(?:__Host-)?dustrun_\w+_csrf=([^;]+)/)?.[1] ?? ''
export const keepCsrfToken = (token: string) => localStorage.setItem(CSRF, token)
export const forgetCsrfToken = () => localStorage.removeItem(CSRF)

function address(path: string, place: Place) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(place.path?.[name] ?? '')))
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(place.query ?? {})) {
    if (value !== undefined && value !== null && value !== '') query.set(name, String(value))
  }
  return query.size ? `${filled}?${query}` : filled
}

/** After so long without an answer it is said that there was none: a button that waits for ever says nothing. */
const WITHIN_MS = 60_000
/** What asks others outside, or reads much, may take longer: the server's own limits end it. */
const SLOW = /\/(?:test|imports?|renew|replay|revoke)$/
const SLOW_WITHIN_MS = 600_000

/** A write that needs the person themselves is sent once more when they have shown that they are here. */
export async function send(method: Method, path: string, place: Place = {}, body?: unknown): Promise<unknown> {
  try {
    return await sendOnce(method, path, place, body)
  } catch (error) {
    if (method === 'get' || place.key || !(error instanceof ApiError && needsPresence(error.code))) throw error
    const shown = await showPresence()
    if (!shown) throw error
    return sendOnce(method, path, shown === true ? place : { ...place, key: shown }, body)
  }
}

async function sendOnce(method: Method, path: string, place: Place, body?: unknown): Promise<unknown> {
  const headers: Record<string, string> = { Accept: 'application/json', 'Dustrun-Exact-Numbers': 'true' }
  if (place.key) headers.Authorization = `Bearer ${place.key}`
  else if (method !== 'get') headers['X-CSRF-Token'] = csrfToken()
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  let response: Response
  let text: string
  const limit = new AbortController()
  const tooLong = () => limit.abort(new DOMException('', 'TimeoutError'))
  const timer = setTimeout(tooLong, SLOW.test(path) ? SLOW_WITHIN_MS : WITHIN_MS)
  try {
    response = await fetch(address(path, place), {
      method: method.toUpperCase(),
      headers,
      body: body === undefined ? undefined : stringify(body),
      signal: place.signal ? AbortSignal.any([place.signal, limit.signal]) : limit.signal,
      credentials: place.key ? 'omit' : 'same-origin',
    })
    heard()
    text = await response.text()
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    doubt()
    throw new ApiError(0, method === 'get' ? words.state.readFailed : words.state.writeFailed)
  } finally {
    clearTimeout(timer)
  }
  let answer: Json = {}
  try {
    answer = parse(text) as Json
  } catch {
    throw new ApiError(
      response.status * 1000,
      `The server answered with something else than JSON (${response.status}).`,
    )
  }
  if (response.ok) return answer.data
  const error = new ApiError(
    Number(answer.code ?? response.status * 1000),
    String(answer.message ?? response.statusText),
    (answer.details ?? answer.errors ?? []) as ApiError['details'],
    String(answer.requestId ?? ''),
  )
  if (error.status === 401 && !place.key) onSignedOut.current()
  throw error
}

type Of<M extends Method> = PathsOf<M> & string
export const get = <P extends Of<'get'>>(path: P, place?: Place) => send('get', path, place) as Promise<Data<P, 'get'>>
export const post = <P extends Of<'post'>>(path: P, place?: Place, body?: Body<paths[P]['post']>) =>
  send('post', path, place, body) as Promise<Data<P, 'post'>>
export const put = <P extends Of<'put'>>(path: P, place?: Place, body?: Body<paths[P]['put']>) =>
  send('put', path, place, body) as Promise<Data<P, 'put'>>
export const patch = <P extends Of<'patch'>>(path: P, place?: Place, body?: Body<paths[P]['patch']>) =>
  send('patch', path, place, body) as Promise<Data<P, 'patch'>>
export const del = <P extends Of<'delete'>>(path: P, place?: Place) =>
  send('delete', path, place) as Promise<Data<P, 'delete'>>

export type Workflow = Schemas['WorkflowAnswer']
export type WorkflowItem = Schemas['WorkflowListItem']
export type Run = Schemas['RunAnswer']
export type RunItem = Schemas['RunListItem']
export type Effects = Schemas['EffectsAnswer']
export type Transaction = Schemas['EffectTransaction']
export type Action = Schemas['ActionAnswer']
export type Problem = Schemas['ValidationItem']
export type Mode = Schemas['Mode']
