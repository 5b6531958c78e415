/** Ctrl+K: from any page to any other, or to a workflow by its name. */
import { Modal } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { useMemo, useState } from 'react'
import { useLocation } from 'wouter'
import { useList } from '../api/queries'
import { Finder } from '../parts/Finder'
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
  const open = (place: Place) => {
    close()
    go(place.href)
  }
  return (
    <Modal opened onClose={close} title={said.title} closeButtonProps={{ 'aria-label': words.dialog.close }} size="lg">
      <Finder
        label={said.search}
        list={said.title}
        nothing={said.nothing}
        text={text}
        setText={setText}
        found={found}
        keyOf={(place) => place.href}
        choose={open}
        render={(place) => (
          <span>
            <strong dir="auto">{place.title}</strong>
            <small>{place.kind}</small>
          </span>
        )}
      />
    </Modal>
  )
}
