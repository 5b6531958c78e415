/** The condition of a step in words and in rows: both are the expression below them, which stays what is stored. */
import { ActionIcon, Button, NativeSelect, SegmentedControl, Select, TextInput } from '@mantine/core'
import { IconPlus, IconX } from '@tabler/icons-react'
import { useState } from 'react'
import { edit, useDocument } from '../editor/document'
import { setField } from '../editor/edits'
import {
  fitted,
  type Group,
  holds,
  isAlone,
  isGroup,
  isWhole,
  kindOf,
  type Op,
  opsFor,
  pathIn,
  type Row,
  readCondition,
  readWords,
  rightOf,
  shownRight,
  type Taken,
  wordsFor,
  writeCondition,
} from '../model/condition'
import type { Leaf } from '../model/values'
import { condition as said } from '../words.condition'
import { brief, type Context, walk } from './paths'

const NEW: Row = { left: '', op: 'is', right: '' }
const EMPTY: Group = { join: 'and', rows: [NEW] }
type Draft = { group: Group; base: string }
type Known = { leaves: Leaf[]; nameOf: (leaf: Leaf) => string; context: Context }
type Props = Known & { id: string }

export function ConditionRows({ id, ...known }: Props) {
  const held = useDocument((s) => s.flow.nodes[id]?.payload?.expression)
  const expression = typeof held === 'string' ? held : ''
  const [draft, setDraft] = useState<Draft | null>(null)
  const read = readCondition(expression)
  // what was changed elsewhere, such as by an undo, is what counts
  const group = draft?.base === expression ? draft.group : (read ?? (expression.trim() ? null : EMPTY))
  const change = (next: Group) => {
    const whole = isWhole(next) ? writeCondition(next) : expression
    setDraft({ group: next, base: whole })
    if (whole !== expression) edit((flow) => setField(flow, id, 'expression', whole), `${id}.expression`)
  }
  return (
    <div className="condition">
      <Words expression={expression} group={group} change={change} {...known} />
      {group ? (
        <section aria-label={said.rows}>
          <Rows group={group} change={change} {...known} />
          {!isWhole(group) && group !== EMPTY && <p className="quiet">{said.notWhole}</p>}
        </section>
      ) : (
        <p className="quiet">{said.byExpression}</p>
      )}
      {group && isWhole(group) && <Answer group={group} context={known.context} />}
    </div>
  )
}

type WordsProps = Known & { expression: string; group: Group | null; change: (next: Group) => void }

function Words({ expression, group, change, leaves, nameOf }: WordsProps) {
  const [typed, setTyped] = useState<{ text: string; taken: Taken[]; unknown?: string } | null>(null)
  const shown = typed?.text ?? (group && isWhole(group) ? wordsFor(group, leaves) : '')
  const type = (text: string) => {
    const found = readWords(text, leaves)
    const spelt = 'unknown' in found ? readCondition(text) : null
    if ('group' in found || spelt) change(spelt ?? ('group' in found ? found.group : EMPTY))
    const unknown = 'unknown' in found && !spelt && text.trim() ? found.unknown : undefined
    setTyped({ text, taken: 'taken' in found ? found.taken : [], unknown })
  }
  return (
    <div className="field">
      <TextInput
        label={said.label}
        placeholder={expression ? undefined : said.example}
        value={shown}
        onChange={(event) => type(event.currentTarget.value)}
        onBlur={() => typed && !typed.unknown && setTyped({ ...typed, text: shown })}
        onFocus={() => setTyped(null)}
        error={typed?.unknown && said.unknown(typed.unknown)}
        spellCheck={false}
      />
      {typed?.taken.map(({ name, leaf }) => (
        <small key={leaf.path} className="quiet taken">
          <b>{name}</b> {said.taken} <span className="from">{nameOf(leaf)}</span>, {said.nearest}
        </small>
      ))}
    </div>
  )
}

type RowsProps = Known & { group: Group; change: (next: Group) => void; isInside?: boolean }

function Rows({ group, change, isInside = false, ...known }: RowsProps) {
  const put = (at: number, ...one: (Row | Group)[]) =>
    change({ ...group, rows: [...group.rows.slice(0, at), ...one, ...group.rows.slice(at + 1)] })
  return (
    <div className="rows">
      {group.rows.map((one, at) => (
        <div key={at} role="group" aria-label={isGroup(one) ? said.group(at + 1) : said.row(at + 1)}>
          {at === 1 ? (
            <SegmentedControl
              size="xs"
              aria-label={said.join}
              data={Object.entries(said.joins).map(([value, label]) => ({ value, label }))}
              value={group.join}
              onChange={(join) => change({ ...group, join: join as Group['join'] })}
            />
          ) : (
            at > 1 && <small className="quiet">{said.joins[group.join]}</small>
          )}
          {isGroup(one) ? (
            <Rows group={one} isInside change={(next) => put(at, ...(next.rows.length ? [next] : []))} {...known} />
          ) : (
            <OneRow
              row={one}
              change={(next) => put(at, next)}
              remove={group.rows.length > 1 || isInside ? () => put(at) : undefined}
              removeLabel={said.removeRow(at + 1)}
              {...known}
            />
          )}
        </div>
      ))}
      <div className="acts">
        <Button
          size="compact-sm"
          variant="default"
          leftSection={<IconPlus size={14} />}
          onClick={() => change({ ...group, rows: [...group.rows, NEW] })}
        >
          {said.addRow}
        </Button>
        {!isInside && (
          <Button
            size="compact-sm"
            variant="default"
            leftSection={<IconPlus size={14} />}
            onClick={() => {
              const inner: Group = { join: group.join === 'and' ? 'or' : 'and', rows: [NEW, NEW] }
              change({ ...group, rows: [...group.rows, inner] })
            }}
          >
            {said.addGroup}
          </Button>
        )}
      </div>
    </div>
  )
}

type OneProps = Known & { row: Row; change: (next: Row) => void; remove?: () => void; removeLabel: string }

function OneRow({ row, change, remove, removeLabel, leaves, nameOf, context }: OneProps) {
  const path = pathIn(row.left)
  const leaf = leaves.find((one) => one.path === path)
  const kind = kindOf(leaf)
  const isText = kind === 'text' && !row.left.startsWith('dec(')
  const [typed, setTyped] = useState<string | null>(null)
  const choices = leaves.map((one) => ({ value: one.path, label: nameOf(one) }))
  const seen = walk(context, path)
  const compare = (text: string) => {
    setTyped(text)
    change({ ...row, right: text.trim() || isText ? rightOf(text, isText) : '' })
  }
  return (
    <div className="compare">
      <Select
        aria-label={said.value}
        placeholder={said.value}
        searchable
        data={path && !leaf ? [...choices, { value: path, label: path }] : choices}
        value={path || null}
        onChange={(next) => {
          const found = leaves.find((one) => one.path === next)
          if (next) change(fitted({ ...row, left: next }, found))
        }}
        allowDeselect={false}
        maxDropdownHeight={300}
      />
      <NativeSelect
        aria-label={said.operator}
        data={opsFor(kind, row.op).map((op) => ({ value: op, label: said.ops[op] }))}
        value={row.op}
        onChange={(event) => {
          const op = event.currentTarget.value as Op
          change(fitted({ ...row, op, right: isAlone(op) ? '' : row.right }, leaf))
        }}
      />
      {!isAlone(row.op) && (
        <TextInput
          aria-label={said.other}
          value={typed ?? shownRight(row.right, isText)}
          onChange={(event) => compare(event.currentTarget.value)}
          onBlur={() => setTyped(null)}
        />
      )}
      {remove && (
        <ActionIcon variant="subtle" color="gray" aria-label={removeLabel} onClick={remove}>
          <IconX size={15} />
        </ActionIcon>
      )}
      {path && (
        <small className="quiet">
          {seen.found && seen.value !== null
            ? said.now(brief(seen.value, 34), said.kinds[kind])
            : said.notNow(said.kinds[kind])}
        </small>
      )}
    </div>
  )
}

function Answer({ group, context }: { group: Group; context: Context }) {
  const answer = holds(group, (path) => walk(context, path))
  return (
    <p className={`answer ${answer === undefined ? '' : answer ? 'yes' : 'no'}`} role="status">
      {answer === undefined ? said.open : answer ? said.yes : said.no}
    </p>
  )
}
