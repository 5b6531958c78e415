/** The assistant: conversations at the left, the chosen one beside them; on a phone one of the two. */
import { useQuery } from '@tanstack/react-query'
import { Link, useLocation, useSearchParams } from 'wouter'
import { get, post } from '../api/client'
import { refresh } from '../api/queries'
import { type Choice, Composer, useModels } from '../assistant/Composer'
import { Conversations } from '../assistant/Conversations'
import { useConversation } from '../assistant/stream'
import { Thread } from '../assistant/Thread'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Loading } from '../parts/Section'
import { Empty } from '../parts/Table'
import { Trouble } from '../parts/Trouble'
import { assistant as said } from '../words.assistant'
import '../style/assistant.css'

const TITLE = 60

export default function Assistant({ id }: { id: string }) {
  return id ? <Opened key={id} id={id} /> : <Fresh />
}

const ask = async (id: string, text: string, choice: Choice, workflowId?: string) => {
  const body = { text, ...choice, ...(workflowId && { workflowId }) }
  await post('/v1/conversations/{id}/turns', { path: { id } }, body)
  await refresh('messages', '/v1/conversations')
}

const halt = async (id: string, messageId: string) => {
  await post('/v1/conversations/{id}/turns/{messageId}/stop', { path: { id, messageId } })
  await refresh('messages', '/v1/conversations')
}

function Fresh() {
  const [, go] = useLocation()
  const [search] = useSearchParams()
  const { isMissing } = useModels()
  const send = async (text: string, choice: Choice) => {
    const { id } = await post('/v1/conversations', {}, { title: text.slice(0, TITLE) })
    await ask(id, text, choice, search.get('workflow') ?? undefined)
    go(`/assistant/${id}`)
  }
  return (
    <Page title={said.title} className="assistant">
      <Conversations id="" />
      <section className="conversation" aria-label={said.fresh}>
        {!isMissing && (
          <div className="thread">
            <Empty title={said.start} about={said.startAbout} />
          </div>
        )}
        <Composer keep="ask new" note="" send={send} />
      </section>
    </Page>
  )
}

function Opened({ id }: { id: string }) {
  const about = useQuery({
    queryKey: ['/v1/conversations', id],
    queryFn: () => get('/v1/conversations/{id}', { path: { id } }),
  })
  const { found, live, isLost } = useConversation(id)
  if (about.error && !about.data) return <Missing of="assistant" error={about.error} retry={() => about.refetch()} />
  const messages = found.data ?? []
  const last = messages[messages.length - 1]
  const told = last && live.byMessage[last.id]
  const isOpen = (last?.status === 'streaming' || last?.status === 'waiting') && !told?.isOver
  const isWaiting = told ? told.isWaiting : last?.status === 'waiting'
  const title = about.data?.title || said.untitled
  return (
    <Page
      title={title}
      className="assistant opened"
      name={<h1 dir="auto">{title}</h1>}
      actions={
        <Link href="/assistant" className="onlynarrow">
          {said.back}
        </Link>
      }
    >
      <Conversations id={id} />
      <section className="conversation" aria-label={title}>
        <Trouble error={found.error} retry={() => found.refetch()} />
        {found.data ? <Thread messages={messages} live={live} isLost={isLost} /> : <Loading />}
        <Composer
          keep={`ask ${id}`}
          note={isOpen ? (isWaiting ? said.waiting : said.busy) : ''}
          send={(text, choice) => ask(id, text, choice)}
          stop={isOpen && last ? () => halt(id, last.id) : undefined}
        />
      </section>
    </Page>
  )
}
