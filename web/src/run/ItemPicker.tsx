/** Which item of a loop is looked at: all of them, or one. */
import { ActionIcon, TextInput } from '@mantine/core'
import { IconChevronLeft, IconChevronRight } from '@tabler/icons-react'
import { useMemo, useState } from 'react'
import { itemsOf, placeOf } from '../model/fold'
import { NodeStatus } from '../parts/Badges'
import { Windowed } from '../parts/Windowed'
import { words } from '../words'
import { useRunStore } from './store'

const said = words.step
const ROW = 34

export function useItems(loop: string) {
  const events = useRunStore((s) => s.events)
  const cursor = useRunStore((s) => s.cursor)
  const picked = useRunStore((s) => s.picked)
  return useMemo(() => itemsOf(events, cursor ?? events.length, loop, picked), [events, cursor, loop, picked])
}

/** One line: `Item 3 of 30`, with the one before, the next and any other; the list is in the loop's own step. */
export function ItemPicker({ loop }: { loop: string }) {
  const items = useItems(loop)
  const at = useRunStore((s) => s.picked[loop])
  const pick = useRunStore((s) => s.pick)
  if (!items.length) return null
  const place = at === undefined ? -1 : items.findIndex((one) => one.index === at)
  const to = (next: number) => pick(loop, items[next]?.index ?? null)
  return (
    <div className="itempicker" role="group" aria-label={said.pickItem}>
      <ActionIcon
        variant="subtle"
        color="gray"
        aria-label={said.itemBefore}
        disabled={place < 0}
        onClick={() => to(place - 1)}
      >
        <IconChevronLeft size={16} />
      </ActionIcon>
      <span aria-live="polite">{at === undefined ? said.allItems(items.length) : said.item(at + 1, items.length)}</span>
      <ActionIcon
        variant="subtle"
        color="gray"
        aria-label={said.itemNext}
        disabled={place >= items.length - 1}
        onClick={() => to(place + 1)}
      >
        <IconChevronRight size={16} />
      </ActionIcon>
      <Jump loop={loop} />
    </div>
  )
}

/** A number, or words that an item says: Enter goes to it, and on to the next that has the words. */
function Jump({ loop }: { loop: string }) {
  const items = useItems(loop)
  const at = useRunStore((s) => s.picked[loop])
  const pick = useRunStore((s) => s.pick)
  const [wanted, setWanted] = useState('')
  const [isMissed, setMissed] = useState(false)
  if (items.length < 2) return null
  const jump = () => {
    const after = items.findIndex((one) => one.index === at)
    const found = wanted.trim() ? items[placeOf(items, wanted, after)] : undefined
    if (found) pick(loop, found.index)
    setMissed(!found)
  }
  return (
    <TextInput
      className="grow"
      size="xs"
      type="search"
      aria-label={said.jump}
      placeholder={said.jumpTo}
      value={wanted}
      error={isMissed && wanted.trim() && said.noItem(wanted.trim())}
      onChange={(event) => {
        setWanted(event.currentTarget.value)
        setMissed(false)
      }}
      onKeyDown={(event) => event.key === 'Enter' && jump()}
    />
  )
}

/** All items of a loop with what became of them; a click looks at one, another click at all again. */
export function Items({ loop }: { loop: string }) {
  const items = useItems(loop)
  const at = useRunStore((s) => s.picked[loop])
  const pick = useRunStore((s) => s.pick)
  if (!items.length) return <p className="quiet">{said.noItems}</p>
  return (
    <>
      <div className="itempicker">
        <Jump loop={loop} />
      </div>
      <Windowed
        rows={items}
        height={ROW}
        label={said.items}
        className="events items"
        keyOf={(one) => one.index}
        at={at === undefined ? null : items.findIndex((one) => one.index === at)}
      >
        {(one) => (
          <button
            type="button"
            aria-pressed={at === one.index}
            onClick={() => pick(loop, at === one.index ? null : one.index)}
          >
            <span className="num quiet">{one.index + 1}</span>
            <span className="told" dir="auto">
              {one.message}
            </span>
            <NodeStatus status={one.status} />
          </button>
        )}
      </Windowed>
    </>
  )
}
