/** Ctrl+K: from any page to any other, and to whatever the server finds. */
import { Modal } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { useMemo, useState } from 'react'
import { useLocation } from 'wouter'
import { get } from '../api/client'
import { useMe } from '../api/queries'
import { isOutside, placeOf } from '../model/found'
import { sees } from '../model/rights'
import { Finder } from '../parts/Finder'
import { ROUTES } from '../routes'
import { words } from '../words'
import { palette as said } from '../words.palette'
import { templates } from '../words.templates'

type Place = { href: string; key: string; title: string; kind: string; about?: string; needs?: string; whole?: true }
const MOST = 20
const PAGES: Place[] = [
  ...ROUTES.flatMap(({ path, rail }) => (rail ? [{ ...rail, ...page(path, rail.title) }] : [])),
  page('/templates', templates.title),
]

function page(href: string, title: string): Place {
  return { href, key: href, title, kind: said.page }
}

/** What the server finds, once something is typed. */
function useFound(q: string): Place[] {
  const hits = useQuery({
    queryKey: ['/v1/search', q],
    queryFn: ({ signal }) => get('/v1/search', { query: { q, limit: MOST }, signal }),
    enabled: q !== '',
    placeholderData: keepPreviousData,
  }).data
  return useMemo(
    () =>
      (hits?.results ?? []).flatMap((one) => {
        const href = placeOf(one)
        const kind = said.kinds[one.type] ?? one.type
        return href === null
          ? []
          : [{ href, key: `${one.type} ${one.id}`, title: one.name, kind, about: one.description }]
      }),
    [hits],
  )
}

export default function Palette({ close }: { close: () => void }) {
  const [, go] = useLocation()
  const [text, setText] = useState('')
  const [q] = useDebouncedValue(text.trim(), 150)
  const me = useMe().data
  const hits = useFound(q)
  const found = useMemo(() => {
    const asked = text.trim().toLowerCase()
    const pages = PAGES.filter((one) => sees(me, one) && one.title.toLowerCase().includes(asked))
    return [...pages, ...(asked ? hits : [])].slice(0, MOST)
  }, [text, hits, me])
  const open = (place: Place) => {
    close()
    if (isOutside(place.href)) window.open(place.href, '_blank', 'noopener')
    else go(place.href)
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
        keyOf={(place) => place.key}
        choose={open}
        render={(place) => (
          <span>
            <strong dir="auto">{place.title}</strong>
            <small dir="auto">{[place.kind, place.about].filter(Boolean).join(' · ')}</small>
          </span>
        )}
      />
    </Modal>
  )
}
