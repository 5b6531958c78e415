/** Whether an export of the log is as the server wrote it: each line follows the one before, and has its signature.
 * `dustrun audit verify` does the same, and needs neither this browser nor this server. */
type Line = Record<string, string | number | null>
export type Checked = { entries: number; wrong: number | null; isSigned: boolean; keys: string[] }

const FIELDS = ['organizationId', 'apiKeyId', 'atMs', 'action', 'subject', 'detail']
const SIGNED = 'dustrun audit line\n'
const bytes = (text: string) => new TextEncoder().encode(text)
const decode = (base64: string) => Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))
const canonical = (line: Line) =>
  JSON.stringify(Object.fromEntries(Object.entries(line).sort(([a], [b]) => (a < b ? -1 : 1))))

async function sha256(text: string) {
  const raw = await crypto.subtle.digest('SHA-256', bytes(text.replaceAll('\\u0000', '\ufffd')))
  return [...new Uint8Array(raw)].map((one) => one.toString(16).padStart(2, '0')).join('')
}

/** A browser without Ed25519 checks the chain alone, and says so. */
const keyOf = (base64: string) =>
  crypto.subtle.importKey('raw', decode(base64), 'Ed25519', false, ['verify']).catch(() => null)

/** `wrong`: the first line that is not as it was written, counted from one. */
export async function check(text: string): Promise<Checked> {
  const found: Checked = { entries: 0, wrong: null, isSigned: true, keys: [] }
  const lines = text.split('\n').slice(0, -1)
  let [hash, lastId, isOpen, next]: [string | null, number, boolean, unknown] = [null, 0, false, null]
  let key: CryptoKey | null = null
  for (const [at, written] of lines.entries()) {
    const { signature, ...line } = JSON.parse(written) as Line
    if (line.kind === 'start') {
      key = await keyOf(String(line.publicKey))
      if (!found.keys.includes(String(line.publicKey))) found.keys.push(String(line.publicKey))
    }
    if (!key) found.isSigned = false
    const ofKey =
      key && (await crypto.subtle.verify('Ed25519', key, decode(String(signature)), bytes(SIGNED + canonical(line))))
    if (ofKey === false || !(await follows(line))) return { ...found, wrong: at + 1 }
  }
  return isOpen || next !== null || !lines.length ? { ...found, wrong: lines.length + 1 } : found

  async function follows(line: Line): Promise<boolean> {
    if (line.kind === 'start') {
      const goesOn: boolean = !isOpen && (hash === null || (line.previous === hash && line.after === lastId))
      ;[hash, lastId, isOpen] = [String(line.previous), Number(line.after), true]
      return goesOn
    }
    if (!isOpen) return false
    if (line.kind === 'end') {
      ;[isOpen, next] = [false, line.next ?? null]
      return line.hash === hash && line.lastId === lastId
    }
    const [before, previousId] = [hash, lastId]
    ;[hash, lastId] = [String(line.hash), Number(line.id)]
    if (line.kind === 'entry') found.entries += 1
    if (line.kind === 'entry' && !line.hash && !before) return true // from before there was a chain
    if (line.previous !== before || lastId <= previousId) return false
    const content = JSON.stringify([line.previous, ...FIELDS.map((name) => line[name])])
    return line.kind === 'others' || (await sha256(content)) === line.hash
  }
}
