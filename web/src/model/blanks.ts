/** What a template cannot know: addresses, URLs and tables that stand for somebody's own, and connectors. Pure. */
import { Exact } from '../api/exact'
import { readable } from './amounts'
import { type Flow, triggersOf } from './graph'

type Path = (string | number)[]
export type Blank = {
  kind: 'url' | 'address' | 'text' | 'table' | 'connector' | 'wallet'
  label: string
  about?: string
  example: string
  /** What a connector must fit. */
  fits?: string[]
  isRequired: boolean
  /** The steps for a connector or a wallet, else values within settings: the same value is asked for once. */
  places: Path[]
}
type Schema = { description?: string; properties?: Record<string, Schema> }
type Spec = {
  name: string
  effect?: string
  connectors?: string[]
  connectorRequired?: boolean
  payloadSchema?: unknown
}
const isTable = (type: string, path: Path) => path.length === 1 && path[0] === 'table' && /table/.test(type)

/** Hosts that belong to nobody (RFC 2606), this computer, and the account of all examples. */
const NOBODYS =
  /^[a-z][a-z+]*:\/\/(([\w-]+\.)*example\.(com|org|net)|127\.0\.0\.1|localhost)([:/?#]|$)|\/123456789012\//
const ADDRESS = /^0x[0-9a-fA-F]{40}$/
const WITHIN = /0x[0-9a-fA-F]{40}/
/** Addresses of examples, some with keys that everybody knows. */
const EXAMPLES = [
  '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
  '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC',
  '0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045',
]
/** Contracts and tokens are what a template is about; who is paid, and who may take, never is. */
const OF_PEOPLE = /^(recipient|address|treasury|spender|to|owner)$/

export function blanksOf(flow: Flow, specs: Record<string, Spec | undefined>): Blank[] {
  const found: Blank[] = []
  const spending: Path[] = []
  const triggers = new Set(triggersOf(flow))
  for (const [id, node] of Object.entries(flow.nodes)) {
    const spec = specs[node.type]
    const step = node.titleOverride || (triggers.has(id) ? spec?.name : undefined) || readable(id)
    const schema = spec?.payloadSchema as Schema | undefined
    visit(node.payload ?? {}, [], (text, path) => {
      const input = inputOf(path)
      const key = input ?? lastName(path)
      const kind = kindOf(text, key, input !== undefined, isTable(node.type, path))
      if (!kind) return
      const label = input ? readable(input) : `${step}: ${readable(key)}`
      const about = input ? aboutInput(node.payload, input) : schema?.properties?.[key]?.description
      add(found, { kind, label, about, example: text, isRequired: true, places: [[id, ...path]] })
    })
    if (spec && !node.connector && needsConnector(spec))
      found.push({
        kind: 'connector',
        label: `${step}: connector`,
        example: '',
        fits: spec.connectors ?? [],
        isRequired: false,
        places: [[id]],
      })
    if (spec?.effect === 'spend' && !node.connector) spending.push([id])
  }
  if (spending.length)
    found.unshift({ kind: 'wallet', label: 'Wallet', example: '', isRequired: false, places: spending })
  return found
}

/** A step that spends names a wallet instead. */
const needsConnector = ({ effect, connectorRequired }: Spec) => connectorRequired && effect !== 'spend'

function add(found: Blank[], one: Blank) {
  const same = found.find(({ kind, example }) => kind === one.kind && example === one.example)
  if (same) same.places.push(...one.places)
  else found.push(one)
}

function kindOf(text: string, key: string, isInput: boolean, isOfTable: boolean): Blank['kind'] | undefined {
  if (isOfTable) return 'table'
  if (text.includes('{{')) return undefined
  if (NOBODYS.test(text)) return 'url'
  if (ADDRESS.test(text)) return EXAMPLES.includes(text) || OF_PEOPLE.test(key) ? 'address' : undefined
  return isInput && WITHIN.test(text) ? 'text' : undefined
}

/** The input of a form whose default is at the path. */
function inputOf(path: Path): string | undefined {
  const [schema, properties, name, last] = path
  const isDefault = schema === 'inputSchema' && properties === 'properties' && last === 'default' && path.length === 4
  return isDefault ? String(name) : undefined
}

const lastName = (path: Path) => String(path.filter((key) => typeof key === 'string').at(-1) ?? '')

const aboutInput = (payload: unknown, name: string) =>
  (payload as { inputSchema?: Schema } | undefined)?.inputSchema?.properties?.[name]?.description

function visit(value: unknown, path: Path, see: (text: string, path: Path) => void): void {
  if (typeof value === 'string') see(value, path)
  else if (Array.isArray(value)) for (const [i, one] of value.entries()) visit(one, [...path, i], see)
  else if (typeof value === 'object' && value !== null && !(value instanceof Exact))
    for (const [key, one] of Object.entries(value)) visit(one, [...path, key], see)
}

export type Answers = (string | { type: string; id: string } | undefined)[]

/** A definition with what was answered, in the order of the blanks; what was not answered stays. */
export function filledIn(flow: Flow, blanks: Blank[], answers: Answers): Flow {
  const nodes = { ...flow.nodes }
  blanks.forEach(({ places }, i) => {
    const answer = answers[i]
    if (!answer) return
    for (const [id, ...path] of places) {
      const node = nodes[String(id)]
      if (!node) continue
      nodes[String(id)] =
        typeof answer === 'string'
          ? { ...node, payload: put(node.payload, path, answer) as Record<string, unknown> }
          : { ...node, connector: { type: answer.type, id: answer.id } }
    }
  })
  return { ...flow, nodes }
}

function put(value: unknown, [key, ...rest]: Path, answer: string): unknown {
  if (key === undefined) return answer
  if (Array.isArray(value)) return value.map((one, i) => (i === key ? put(one, rest, answer) : one))
  const map = value as Record<string, unknown>
  return { ...map, [key]: put(map[key], rest, answer) }
}
