/** A JSON value as a tree: exact numbers, long texts cut, and only what is open is drawn. */
import { ActionIcon, CopyButton, Tooltip } from '@mantine/core'
import { IconCheck, IconCopy } from '@tabler/icons-react'
import { useState } from 'react'
import { Exact, stringify } from '../api/exact'
import { words } from '../words'

const STEP = 100
const LONG = 600

export function Value({ value, label }: { value: unknown; label: string }) {
  return (
    <div className="value">
      <CopyButton value={typeof value === 'string' ? value : stringify(value, 2)}>
        {({ copied, copy }) => (
          <Tooltip label={copied ? words.value.copied : words.value.copy}>
            <ActionIcon className="copy" variant="subtle" color="gray" onClick={copy} aria-label={words.value.copy}>
              {copied ? <IconCheck size={16} /> : <IconCopy size={16} />}
            </ActionIcon>
          </Tooltip>
        )}
      </CopyButton>
      <div className="tree" tabIndex={0} role="region" aria-label={label}>
        <Branch value={value} depth={0} />
      </div>
    </div>
  )
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
  const entries = Object.entries(value)
  const brief = Array.isArray(value) ? `[${entries.length}]` : entries.length ? `{${entries.length}}` : '{}'
  if (!entries.length)
    return (
      <div className="leaf">
        {key}
        <span className="quiet">{Array.isArray(value) ? '[]' : '{}'}</span>
      </div>
    )
  const list = (
    <>
      {entries.slice(0, shown).map(([k, v]) => (
        <Branch key={k} name={k} value={v} depth={depth + 1} />
      ))}
      {entries.length > shown && (
        <button type="button" className="link" onClick={() => setShown(shown + STEP)}>
          {words.value.more(Math.min(STEP, entries.length - shown))}
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
      isOpen={depth < 3 && entries.length <= 20}
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
