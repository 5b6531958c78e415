/** What starts the workflow, found by what it does. */
import { Select } from '@mantine/core'
import { useCatalog } from '../api/queries'
import { edit } from '../editor/document'
import { patchNode } from '../editor/edits'
import { TIMED } from '../model/schedule'
import { words } from '../words'
import type { Schema } from './schema'

export function StartsBy({ id, type }: { id: string; type: string }) {
  const catalog = useCatalog().data ?? {}
  const timed = TIMED.has(type) ? type : 'cronjob' // three types, and one way to think of them
  const triggers = Object.values(catalog).filter(
    (one) => one.effect === undefined && (!TIMED.has(one.type) || one.type === timed),
  )
  const schedules = [...TIMED].map((one) => `${catalog[one]?.name} ${catalog[one]?.summary}`).join(' ')
  /** Settings that the new trigger has too are kept; the rest can be brought back with Undo. */
  const change = (next: string | null) =>
    edit((flow) => {
      const fields = (catalog[next ?? '']?.payloadSchema as Schema | undefined)?.properties ?? {}
      const kept = Object.entries(flow.nodes[id]?.payload ?? {}).filter(([name]) => name in fields)
      const connector = catalog[next ?? '']?.connectors?.length ? flow.nodes[id]?.connector : undefined
      return patchNode(flow, id, { type: next ?? type, payload: Object.fromEntries(kept), connector })
    })
  const about = (value: string) => (TIMED.has(value) ? words.schedule.summary : (catalog[value]?.summary ?? ''))
  return (
    <Select
      label={words.inspector.startsBy}
      data={triggers.map((one) => ({ value: one.type, label: TIMED.has(one.type) ? words.schedule.name : one.name }))}
      value={type}
      onChange={change}
      allowDeselect={false}
      searchable
      selectFirstOptionOnChange
      nothingFoundMessage={words.state.noMatch}
      filter={({ options, search }) => {
        const asked = search.toLowerCase().split(/\s+/)
        const has = (one: object) => {
          const { label, value } = one as { label: string; value: string }
          const text = `${label} ${about(value)} ${TIMED.has(value) ? schedules : ''}`.toLowerCase()
          return asked.every((word) => text.includes(word))
        }
        return options.filter(has)
      }}
      renderOption={({ option }) => (
        <span className="startsby">
          {option.label}
          <small>{about(option.value)}</small>
        </span>
      )}
      maxDropdownHeight={420}
    />
  )
}
