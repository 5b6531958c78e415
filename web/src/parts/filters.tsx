/** What is chosen on a page, such as the filters of a list, kept in its address. */
import { TextInput } from '@mantine/core'
import { useDebouncedCallback } from '@mantine/hooks'
import { IconSearch } from '@tabler/icons-react'
import { useCallback, useEffect, useRef, useState } from 'react'
import { useSearchParams } from 'wouter'
import { words } from '../words'

const PAUSE_MS = 250

export function useFilters() {
  const [search, setSearch] = useSearchParams()
  const set = useCallback(
    (name: string, value: string | null) =>
      setSearch(
        (old) => {
          const next = new URLSearchParams(old)
          if (value) next.set(name, value)
          else next.delete(name)
          return next
        },
        { replace: true },
      ),
    [setSearch],
  )
  return { search, get: (name: string) => search.get(name), set }
}

/** A text that is looked for when a person pauses. */
export function TextFilter({ label, value, set }: { label: string; value: string | null; set: (to: string) => void }) {
  const [text, setText] = useState(value ?? '')
  const sent = useRef(value ?? '')
  const send = useDebouncedCallback((to: string) => {
    sent.current = to
    set(to)
  }, PAUSE_MS)
  useEffect(() => {
    if ((value ?? '') === sent.current) return
    sent.current = value ?? ''
    setText(sent.current)
  }, [value])
  return (
    <TextInput
      aria-label={label}
      placeholder={label}
      leftSection={<IconSearch size={16} />}
      value={text}
      onChange={(event) => {
        setText(event.currentTarget.value)
        send(event.currentTarget.value)
      }}
      className="grow"
    />
  )
}

/** The instant at which a day of the reader's begins, or ends; what is no day filters nothing. */
export function instant(day: string | null, isEnd: boolean): string | null {
  const at = day ? new Date(`${day}T00:00`) : null
  if (!at || Number.isNaN(at.getTime())) return null
  if (isEnd) at.setDate(at.getDate() + 1)
  return at.toISOString()
}

/** A day from which, or up to which, a list goes. */
export function DayFilter({ name }: { name: 'from' | 'to' }) {
  const { get, set } = useFilters()
  const said = words.runs
  return (
    <TextInput
      type="date"
      title={said[name]}
      aria-label={said[name]}
      leftSection={<small className="quiet">{name === 'from' ? said.fromShort : said.toShort}</small>}
      leftSectionWidth={48}
      value={get(name) ?? ''}
      onChange={(event) => set(name, event.currentTarget.value)}
    />
  )
}
