/** Workflows to start from: searched, by what they are for; a click makes a draft of one's own. */
import { Button, SegmentedControl, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconSearch } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { useLocation, useSearchParams } from 'wouter'
import { get, post, type Schemas } from '../api/client'
import { everyOne, refresh, useCatalog } from '../api/queries'
import type { Blank } from '../model/blanks'
import { glyph } from '../model/glyphs'
import type { Flow } from '../model/graph'
import { later } from '../parts/later'
import { Page } from '../parts/Page'
import { Empty } from '../parts/Table'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { templates as said } from '../words.templates'
import '../style/templates.css'

type Item = Schemas['TemplateItem']
export type Asked = Schemas['TemplateAnswer'] & { definition: Flow; blanks: Blank[] }
const Blanks = later(() => import('./Blanks').then((module) => module.default))
const CATEGORIES = Object.entries(said.categories).map(([value, label]) => ({ value, label }))

export default function Templates() {
  const [search, setSearch] = useSearchParams()
  const [text, setText] = useState(search.get('q') ?? '')
  const [q] = useDebouncedValue(text, 200)
  const category = search.get('category') ?? ''
  const ask = (next: { q: string; category: string }) => {
    const kept = Object.entries(next).filter(([, value]) => value)
    setSearch(Object.fromEntries(kept), { replace: true })
  }
  // biome-ignore lint/correctness/useExhaustiveDependencies: only what was typed changes the address
  useEffect(() => {
    if (q !== (search.get('q') ?? '')) ask({ q, category })
  }, [q])
  const found = useTemplates({ q, category: category || undefined })
  return (
    <Page
      title={said.title}
      filters={
        <>
          <TextInput
            aria-label={said.search}
            placeholder={said.search}
            leftSection={<IconSearch size={16} />}
            value={text}
            onChange={(event) => setText(event.currentTarget.value)}
            className="grow"
          />
          <SegmentedControl
            aria-label={said.category}
            data={[{ value: '', label: said.all }, ...CATEGORIES]}
            value={category}
            onChange={(value) => ask({ q: text, category: value })}
          />
        </>
      }
    >
      {found.error && <Trouble error={found.error} retry={() => found.refetch()} />}
      {found.data?.length === 0 && <Empty title={words.state.noMatch} />}
      <TemplateCards items={found.data ?? []} />
    </Page>
  )
}

export const useTemplates = (query: { q?: string; category?: string }) =>
  useQuery({
    queryKey: ['/v1/templates', query],
    queryFn: () => get('/v1/templates', { query }),
    placeholderData: (old: Item[] | undefined) => old,
    staleTime: Number.POSITIVE_INFINITY,
  })

export function TemplateCards({ items }: { items: Item[] }) {
  const [error, setError] = useState<unknown>(null)
  return (
    <>
      <Trouble error={error} />
      <ul className="templates" aria-label={said.title}>
        {items.map((one) => (
          <TemplateCard key={one.id} one={one} fail={setError} />
        ))}
      </ul>
    </>
  )
}

function TemplateCard({ one, fail }: { one: Item; fail: (error: unknown) => void }) {
  const [, go] = useLocation()
  const [isBusy, setBusy] = useState(false)
  const [asked, setAsked] = useState<Asked | null>(null)
  const found = useCatalog()
  const catalog = found.data ?? {}
  const open = async (id: string) => {
    await refresh('/v1/workflows')
    go(`/workflows/${id}`)
  }
  const use = async () => {
    setBusy(true)
    try {
      const path = { id: one.id }
      const template = (await get('/v1/templates/{id}', { path })) as Asked
      if (await isWorthAsking(template.blanks)) setAsked(template)
      else await open((await post('/v1/templates/{id}/use', { path }, { values: {}, keepExamples: false })).id)
    } catch (problem) {
      fail(problem)
    }
    setBusy(false)
  }
  return (
    <li className="template">
      <h2>{one.name}</h2>
      <p>{one.description}</p>
      <div className="glyphs" aria-hidden>
        {[one.triggerType, ...one.types.filter((type) => type !== one.triggerType)].slice(0, MOST).map((type) => {
          const effect = catalog[type]?.effect ?? 'trigger'
          const Glyph = glyph(type, effect)
          return (
            <span key={type} className={effect} title={type}>
              <i className="glyph">
                <Glyph size={15} stroke={1.8} />
              </i>
            </span>
          )
        })}
      </div>
      <Button
        variant="default"
        size="sm"
        loading={isBusy || !found.data}
        onClick={use}
        aria-label={said.useOf(one.name)}
      >
        {said.use}
      </Button>
      {asked && <Blanks asked={asked} open={open} close={() => setAsked(null)} />}
    </li>
  )
}

/** A wallet alone is asked for where there are several. */
const isWorthAsking = async (blanks: Blank[]) =>
  blanks.some((one) => one.kind !== 'wallet') || (blanks.length > 0 && (await everyOne('/v1/wallets')).length > 1)

const MOST = 6
