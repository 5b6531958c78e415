/** Amounts for people: digits are cut, never rounded, and the whole amount is a title away. Exact: strings and BigInt. */

/** `-62.342017482` becomes `−62.3420…`. */
export function amount(text?: string | null): string {
  if (text === null || text === undefined) return ''
  const sign = text.startsWith('-') ? '−' : ''
  const digits = text.replace('-', '')
  const dot = digits.indexOf('.')
  if (dot < 0) return sign + digits
  const zeros = digits.slice(dot + 1).match(/^0*/)?.[0].length ?? 0
  const keep = dot + 1 + Math.max(4 - Math.min(2, Math.max(0, dot - 2)), zeros + 3)
  return sign + (digits.length > keep ? `${digits.slice(0, keep)}…` : digits)
}

/** `0.001993` becomes `$0.001993`, `1311.71` becomes `$1,311.71`. */
export function money(usd?: string | null): string {
  if (usd === null || usd === undefined) return ''
  const [whole = '0', part = ''] = usd.replace('-', '').split('.')
  const sign = usd.startsWith('-') ? '−' : ''
  if (whole === '0' && /^0*$/.test(part)) return '$0'
  if (whole === '0' && part.startsWith('00')) return `${sign}$0.${part.replace(/0+$/, '').slice(0, 6)}`
  return `${sign}$${whole.replace(/\B(?=(\d{3})+$)/g, ',')}.${`${part}00`.slice(0, 2)}`
}

/** Base units as a decimal text, all digits. */
export function fromUnits(units: bigint, decimals: number): string {
  const digits = (units < 0n ? -units : units).toString().padStart(decimals + 1, '0')
  const whole = decimals ? digits.slice(0, -decimals) : digits
  const part = decimals ? digits.slice(-decimals).replace(/0+$/, '') : ''
  return `${units < 0n ? '-' : ''}${whole}${part ? `.${part}` : ''}`
}

/** How much an amount differs from another, in thousandths of a percent, from base units. */
export function difference(amount: string, from: string): string | null {
  const base = BigInt(from)
  const delta = BigInt(amount) - base
  if (delta === 0n) return null
  if (base === 0n) return '+∞'
  const scaled = (delta * 100_000n) / (base < 0n ? -base : base)
  const digits = (scaled < 0n ? -scaled : scaled).toString().padStart(4, '0')
  const sign = delta < 0n ? '−' : '+'
  return scaled === 0n ? `${sign}<0.001 %` : `${sign}${digits.slice(0, -3)}.${digits.slice(-3)} %`
}

/** Addresses in a text, shortened. */
export const short = (text: string) =>
  text.replace(/0x[0-9a-fA-F]{40,}/g, (hex) => `${hex.slice(0, 6)}…${hex.slice(-4)}`)

/** Words with capitals of their own; the server's catalogue writes them likewise. */
const SPELT = new Map([
  ...'abi api csv erc20 erc721 eth evm html http id json llm mcp rpc rss url usd v2 v3 xml'
    .split(' ')
    .map((word): [string, string] => [word, word.toUpperCase()]),
  ['ids', 'IDs'],
  ['uniswap', 'Uniswap'],
  ['urls', 'URLs'],
])

/** What is written for the documentation, without the marks of code. */
export const plain = (text: string) => text.replaceAll('`', '')

/** A number that was put behind a name, such as that of a second step of its type; not one that belongs to a word. */
const COUNTED = /(?<!\b(?:mp|x)|base|erc|sha|uuid|[vV])(?<=[a-z])([2-9]|[1-9]\d)$/

/** `amountOutMin` becomes `Amount out min`, and `chainId` `Chain ID`. */
export const readable = (name: string) =>
  name
    .replace(/Ms$/, ' (ms)')
    .replace(/Bps$/, ' (bps)')
    .replace(/[-_]/g, ' ')
    .replace(COUNTED, ' $1')
    .replace(/([a-z0-9])([A-Z])/g, (_, a: string, b: string) => `${a} ${b.toLowerCase()}`)
    .replace(/[a-z0-9]+/gi, (word) => SPELT.get(word.toLowerCase()) ?? word)
    .replace(/^./, (c) => c.toUpperCase())

/** Which part of `all` a decimal is, in thousandths, for a bar: exact until the last division. */
export function thousandths(part: string, all: string): number {
  const places = Math.max(...[part, all].map((text) => text.split('.')[1]?.length ?? 0))
  const scaled = (text: string) => {
    const [whole = '0', rest = ''] = text.split('.')
    return BigInt(whole + rest.padEnd(places, '0'))
  }
  const most = scaled(all)
  if (most === 0n) return scaled(part) > 0n ? 1000 : 0
  const share = (scaled(part) * 1000n) / most
  return share > 1000n ? 1000 : Number(share)
}

const parts = (text: string): [bigint, number] | null => {
  const found = text.trim().match(/^(\d+)(?:\.(\d*))?$/)
  return found && [BigInt(`${found[1]}${found[2] ?? ''}`), found[2]?.length ?? 0]
}

/** Dollars as base units of a coin, cut to what the coin can hold; null where one of them is no number. */
export function dollarsToUnits(usd: string, price: string, decimals: number): string | null {
  const [asked, worth] = [parts(usd.replace(/^\$|,(?=\d{3})/g, '')), parts(price)]
  if (!asked || !worth || worth[0] === 0n) return null
  return ((asked[0] * 10n ** BigInt(decimals + worth[1])) / (worth[0] * 10n ** BigInt(asked[1]))).toString()
}

/** What base units of a coin are worth in dollars, all digits; null without a price. */
export function unitsInDollars(units: string, price: string, decimals: number): string | null {
  const worth = parts(price)
  return worth && /^\d+$/.test(units) ? fromUnits(BigInt(units) * worth[0], decimals + worth[1]) : null
}
