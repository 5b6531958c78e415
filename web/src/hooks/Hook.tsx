/** One hook: what it is told, whether it answers, and what can be done with it. */
import { Button } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link, useLocation } from 'wouter'
import { del, get, post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { StatusBadge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Facts, LoadingPage, Section } from '../parts/Section'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { hooks as said } from '../words.hooks'
import { Secret } from './Secret'

type Hook = Schemas['HookAnswer']

export default function HookPage({ id }: { id: string }) {
  const found = useQuery({ queryKey: ['/v1/hooks', id], queryFn: () => get('/v1/hooks/{id}', { path: { id } }) })
  if (found.error && !found.data) return <Missing of="hooks" error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <LoadingPage />
  return <Shown hook={found.data} />
}

function Shown({ hook }: { hook: Hook }) {
  const [, go] = useLocation()
  const [asks, setAsks] = useState<'delete' | 'rotate' | null>(null)
  const [answer, setAnswer] = useState<unknown>(null)
  const [secret, setSecret] = useState('')
  const [error, setError] = useState<unknown>(null)
  const path = { path: { id: hook.id } }
  const act = async (work: () => Promise<unknown>) => {
    setError(null)
    try {
      await work()
      await refresh('/v1/hooks')
    } catch (problem) {
      setError(problem)
    }
  }
  const isPaused = hook.status !== 'active'
  const facts: [string, string][] = [
    [said.url, hook.url],
    [said.types, hook.subscribedEventTypes.join(', ')],
    [said.modes, hook.modes.join(', ')],
    ...(hook.disabledReason ? [[said.why, hook.disabledReason] as [string, string]] : []),
  ]
  return (
    <Page
      title={hook.name}
      className="details"
      name={
        <>
          <h1 dir="auto">{hook.name}</h1>
          <StatusBadge status={hook.status} />
        </>
      }
      actions={
        <>
          <Button variant="default" onClick={() => act(async () => setAnswer(await post('/v1/hooks/{id}/test', path)))}>
            {said.test}
          </Button>
          <Button
            variant="default"
            onClick={() => act(() => post(isPaused ? '/v1/hooks/{id}/enable' : '/v1/hooks/{id}/disable', path))}
          >
            {isPaused ? said.enable : said.disable}
          </Button>
          <Button variant="default" onClick={() => setAsks('rotate')}>
            {said.rotate}
          </Button>
          <Button variant="default" onClick={() => setAsks('delete')}>
            {said.delete}
          </Button>
        </>
      }
    >
      <Trouble error={error} />
      <Section title={said.about}>
        <Facts of={facts} />
        <p className="foot">
          <Link href="/triggers?tab=deliveries">{said.deliveries}</Link>
        </p>
      </Section>
      {answer !== null && (
        <section aria-label={said.test}>
          <Value value={answer} label={said.tested} />
        </section>
      )}
      <Confirm
        title={said.deleteAsk}
        isOpen={asks === 'delete'}
        close={() => setAsks(null)}
        go={said.delete}
        act={async () => {
          await del('/v1/hooks/{id}', path)
          await refresh('/v1/hooks')
          go('/hooks')
        }}
      >
        <p>{said.deleteAbout}</p>
      </Confirm>
      <Confirm
        title={said.rotateAsk}
        isOpen={asks === 'rotate'}
        close={() => setAsks(null)}
        go={said.rotate}
        danger={false}
        act={async () => {
          const made = await post('/v1/hooks/{id}/rotate-secret', path, {} as never)
          setSecret(String((made as unknown as { secret: string }).secret))
        }}
      >
        <p>{said.rotateAbout}</p>
      </Confirm>
      {secret && <Secret secret={secret} close={() => setSecret('')} />}
    </Page>
  )
}
