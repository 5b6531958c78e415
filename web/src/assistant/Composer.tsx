/** Where a person writes, and which model answers. What was not sent yet survives a reload. */
import { Button, NativeSelect, Textarea } from '@mantine/core'
import { IconSend } from '@tabler/icons-react'
import { type FormEvent, type KeyboardEvent, useState } from 'react'
import { Link } from 'wouter'
import type { Schemas } from '../api/client'
import { useList } from '../api/queries'
import { Empty } from '../parts/Table'
import { Trouble } from '../parts/Trouble'
import { assistant as said } from '../words.assistant'

type Connector = Schemas['ConnectorAnswer']
export type Choice = { connectorId?: string; model?: string }
const CHOSEN = 'dustrun-model'
const MOST = 20_000

/** Every model that a connector has a price for. */
function choicesOf(connectors: Connector[]) {
  return connectors
    .filter((one) => one.type.startsWith('llm-'))
    .flatMap((one) => {
      const { model, prices } = one.maskedData as { model?: string; prices?: Record<string, unknown> }
      const names = [...new Set([model ?? '', ...Object.keys(prices ?? {})])].filter((name) => name && name !== '*')
      return names.map((name) => ({ value: `${one.id} ${name}`, label: `${name} · ${one.name}` }))
    })
}

export function useModels() {
  const found = useList('/v1/connectors')
  const all = choicesOf(found.rows)
  const [chosen, setChosen] = useState(() => localStorage.getItem(CHOSEN) ?? '')
  const value = all.find((one) => one.value === chosen)?.value ?? all[0]?.value ?? ''
  const choose = (fresh: string) => {
    setChosen(fresh)
    localStorage.setItem(CHOSEN, fresh)
  }
  const [connectorId, model] = value.split(' ')
  const isMissing = !found.isPending && !found.error && !found.hasNextPage && !all.length
  return { all, value, choose, isMissing, choice: (value ? { connectorId, model } : {}) as Choice }
}

export const NoModel = () => (
  <Empty title={said.noModel} about={said.noModelAbout}>
    <Link href="/connectors">{said.noModelGo}</Link>
    <p className="quiet">
      <code>{said.noModelCli}</code>
    </p>
  </Empty>
)

type Props = {
  keep: string
  note: string
  send: (text: string, choice: Choice) => Promise<unknown>
  stop?: () => Promise<unknown>
}

export function Composer({ keep, note, send, stop }: Props) {
  const [text, setText] = useState(() => sessionStorage.getItem(keep) ?? '')
  const [error, setError] = useState<unknown>(null)
  const [isBusy, setIsBusy] = useState(false)
  const models = useModels()
  const write = (fresh: string) => {
    setText(fresh)
    sessionStorage.setItem(keep, fresh)
  }
  const submit = async (event?: FormEvent) => {
    event?.preventDefault()
    if (!text.trim() || isBusy || note) return
    setIsBusy(true)
    setError(null)
    try {
      sessionStorage.removeItem(keep)
      await send(text.trim(), models.choice)
      setText('')
    } catch (problem) {
      write(text)
      setError(problem)
    }
    setIsBusy(false)
  }
  const press = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault()
      void submit()
    }
  }
  if (models.isMissing) return <NoModel />
  return (
    <form className="composer" onSubmit={submit}>
      <Trouble error={error} />
      <Textarea
        label={said.ask}
        description={said.askAbout}
        autosize
        minRows={1}
        maxRows={8}
        maxLength={MOST}
        value={text}
        onChange={(event) => write(event.currentTarget.value)}
        onKeyDown={press}
      />
      <div className="sending">
        {models.all.length > 0 && (
          <NativeSelect
            aria-label={said.model}
            data={models.all}
            value={models.value}
            onChange={(event) => models.choose(event.currentTarget.value)}
          />
        )}
        <span className="quiet grow" role="status">
          {note}
        </span>
        {stop && (
          <Button variant="default" onClick={() => stop().catch(setError)}>
            {said.stop}
          </Button>
        )}
        <Button
          type="submit"
          leftSection={<IconSend size={16} />}
          loading={isBusy}
          disabled={!text.trim() || note !== ''}
        >
          {said.send}
        </Button>
      </div>
    </form>
  )
}
