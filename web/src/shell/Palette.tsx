/** Ctrl+K: from any page to any other, or to a workflow by its name. */
import { Modal, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconSearch } from '@tabler/icons-react'
import { type KeyboardEvent, useMemo, useState } from 'react'
import { useLocation } from 'wouter'
import { useList } from '../api/queries'
import { ROUTES } from '../routes'
import { words } from '../words'
import { palette as said } from '../words.palette'
import { templates } from '../words.templates'

type Place = { href: string; title: string; kind: string }
const MOST = 20
const PAGES: Place[] = [
  ...ROUTES.flatMap(({ path, rail }) => (rail ? [{ href: path, title: rail.title, kind: said.page }] : [])),
  { href: '/templates', title: templates.title, kind: said.page },
]

export default function Palette({ close }: { close: () => void }) {
  const [, go] = useLocation()
  const [text, setText] = useState('')
  const [at, setAt] = useState(0)
  const [q] = useDebouncedValue(text.trim(), 150)
  const workflows = useList('/v1/workflows', { q })
  const found = useMemo(() => {
    const asked = text.trim().toLowerCase()
    const pages = PAGES.filter((one) => one.title.toLowerCase().includes(asked))
    const named = workflows.rows
      .filter((one) => one.name.toLowerCase().includes(asked))
      .map((one) => ({ href: `/workflows/${one.id}`, title: one.name, kind: said.workflow }))
    return [...pages, ...named].slice(0, MOST)
  }, [text, workflows.rows])
  const open = (place?: Place) => {
    if (!place) return
    close()
    go(place.href)
  }
  const walk = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') setAt(Math.min(at + 1, found.length - 1))
    else if (event.key === 'ArrowUp') setAt(Math.max(at - 1, 0))
    else if (event.key === 'Enter') open(found[at])
    else return
    event.preventDefault()
  }
  return (
    <Modal opened onClose={close} title={said.title} closeButtonProps={{ 'aria-label': words.dialog.close }} size="lg">
      <TextInput
        data-autofocus
        role="combobox"
        aria-expanded
        aria-controls="palette"
        aria-activedescendant={found[at] ? `palette-${at}` : undefined}
        aria-label={said.search}
        placeholder={said.search}
        leftSection={<IconSearch size={16} />}
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value)
          setAt(0)
        }}
        onKeyDown={walk}
      />
      {!found.length && <p className="quiet pad">{said.nothing}</p>}
      <div className="choices" id="palette" role="listbox" aria-label={said.title} tabIndex={-1}>
        {found.map((place, i) => (
          <div
            key={place.href}
            id={`palette-${i}`}
            role="option"
            aria-selected={i === at}
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => open(place)}
            onKeyDown={() => {}}
            ref={(el) => (i === at ? el?.scrollIntoView({ block: 'nearest' }) : undefined)}
          >
            <span>
              <strong dir="auto">{place.title}</strong>
              <small>{place.kind}</small>
            </span>
          </div>
        ))}
      </div>
    </Modal>
  )
}
