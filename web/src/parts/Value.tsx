/** A JSON value as a tree: exact numbers, long texts cut, and only what is open is drawn. */
import { ActionIcon, Tooltip } from '@mantine/core'
import { useClipboard } from '@mantine/hooks'
import { IconCheck, IconCopy } from '@tabler/icons-react'
import { useState } from 'react'
import type { Json } from '../api/client'
import { Exact, stringify } from '../api/exact'
import { words } from '../words'

const STEP = 100
const LONG = 600

export function Value({ value, label }: { value: unknown; label: string }) {
  return (
    <div className="value">
      <Copy value={value} />
      <div className="tree" tabIndex={0} role="region" aria-label={label}>
        <Branch value={value} depth={0} />
      </div>
    </div>
  )
}

/** The text is made when it is asked for: a result may have ten megabytes. */
function Copy({ value }: { value: unknown }) {
  const { copy, copied } = useClipboard()
  return (
    <Tooltip label={copied ? words.value.copied : words.value.copy}>
      <ActionIcon
        className="copy"
        variant="subtle"
        color="gray"
        onClick={() => copy(typeof value === 'string' ? value : stringify(value, 2))}
        aria-label={words.value.copy}
      >
        {copied ? <IconCheck size={16} /> : <IconCopy size={16} />}
      </ActionIcon>
    </Tooltip>
  )
}

/** The first entries of a list or an object, and how many there are; the rest is not touched. */
function some(value: object, most: number): { entries: [string, unknown][]; all: number } {
  if (Array.isArray(value))
    return { entries: value.slice(0, most).map((one, i) => [String(i), one]), all: value.length }
  const keys = Object.keys(value)
  return { entries: keys.slice(0, most).map((key) => [key, (value as Json)[key]]), all: keys.length }
}

function Branch({ name, value, depth }: { name?: string; value: unknown; depth: number }) {
  const [shown, setShown] = useState(STEP)
  const isTree = typeof value === 'object' && value !== null && !(value instanceof Exact)
  const key = name === undefined ? null : <span className="key">{name}</span>
  if (!isTree)
    return (
      <div className="leaf">
        {key}
        <Leaf value={value} />
      </div>
    )
  const { entries, all } = some(value, shown)
  const brief = Array.isArray(value) ? `[${all}]` : `{${all}}`
  if (!all)
    return (
      <div className="leaf">
        {key}
        <span className="quiet">{Array.isArray(value) ? '[]' : '{}'}</span>
      </div>
    )
  const list = (
    <>
      {entries.map(([k, v]) => (
        <Branch key={k} name={k} value={v} depth={depth + 1} />
      ))}
      {all > shown && (
        <button type="button" className="link" onClick={() => setShown(shown + STEP)}>
          {words.value.more(Math.min(STEP, all - shown))}
        </button>
      )}
    </>
  )
  if (depth === 0) return list
  return (
    <Fold
      head={
        <>
          {key}
          <span className="quiet">{brief}</span>
        </>
      }
      isOpen={depth < 3 && all <= 20}
    >
      {list}
    </Fold>
  )
}

function Fold({ head, isOpen, children }: { head: React.ReactNode; isOpen: boolean; children: React.ReactNode }) {
  const [open, setOpen] = useState(isOpen)
  return (
    <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{head}</summary>
      {open && <div className="inner">{children}</div>}
    </details>
  )
}

function Leaf({ value }: { value: unknown }) {
  const [whole, setWhole] = useState(false)
  if (typeof value !== 'string') return <code className="number">{String(value)}</code>
  if (value.length <= LONG || whole) return <code className="text">{value}</code>
  return (
    <code className="text">
      {value.slice(0, LONG)}…{' '}
      <button type="button" className="link" onClick={() => setWhole(true)}>
        {words.value.cut(value.length)}
      </button>
    </code>
  )
}
