/** The one form of a template: what it cannot know. Nothing is made before the server finds it valid. */
import { NativeSelect, Textarea, TextInput } from '@mantine/core'
import { useState } from 'react'
import { post } from '../api/client'
import { useEveryOne } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { servesOneOf } from '../forms/fits'
import NewConnector from '../forms/NewConnector'
import NewWallet from '../forms/NewWallet'
import { OwnWallets } from '../inspector/OwnWallets'
import { type Answers, type Blank, filledIn } from '../model/blanks'
import { words } from '../words'
import { pages } from '../words.pages'
import { templates as said } from '../words.templates'
import type { Asked } from './Templates'
import '../style/editor.css'

type Props = { asked: Asked; open: (id: string) => Promise<void>; close: () => void }
type Named = { type: string; id: string }

export default function Blanks({ asked, open, close }: Props) {
  const { name, description, definition, blanks } = asked
  const [answers, setAnswers] = useState<Answers>([])
  const [making, setMaking] = useState<number | null>(null)
  const answer = (at: number, value: Answers[number]) =>
    setAnswers((all) => blanks.map((_, i) => (i === at ? value : all[i])))
  const make = async () => {
    const filled = filledIn(definition, blanks, answers)
    const { errors } = await post('/v1/workflows/validate', {}, { definition: filled } as never)
    const isLeft = (field: string) =>
      blanks.some(
        ({ kind, places }, i) => kind === 'connector' && !answers[i] && field === `nodes.${places[0]?.[0]}.connector`,
      )
    const wrong = errors.filter(({ field }) => !isLeft(field ?? ''))
    if (wrong.length) throw new Error(wrong.map(({ message }) => message).join(' '))
    const { id } = await post('/v1/workflows', {}, { name, description, definition: filled } as never)
    await open(id)
  }
  const made = making === null ? undefined : blanks[making]
  const take = (one: Named) => making !== null && answer(making, one)
  return (
    <>
      <FormDialog title={name} go={said.make} close={close} act={make}>
        <p className="quiet">{description}</p>
        {blanks.map((blank, i) => (
          <Ask
            key={blank.label}
            blank={blank}
            answer={answers[i]}
            give={(value) => answer(i, value)}
            make={() => setMaking(i)}
          />
        ))}
      </FormDialog>
      {/* beside the form, not within it: sending one would send the other */}
      {made?.kind === 'connector' && <NewConnector kinds={made.fits} close={() => setMaking(null)} made={take} />}
      {made?.kind === 'wallet' && (
        <NewWallet close={() => setMaking(null)} made={(id) => take({ type: 'wallet', id })} />
      )}
    </>
  )
}

type AskProps = {
  blank: Blank
  answer: Answers[number]
  give: (value: Answers[number]) => void
  make: () => void
}

function Ask({ blank, answer, give, make }: AskProps) {
  if (blank.kind === 'connector') return <ConnectorAsk blank={blank} answer={answer} give={give} make={make} />
  if (blank.kind === 'wallet') return <WalletAsk blank={blank} answer={answer} give={give} make={make} />
  const text = typeof answer === 'string' ? answer : ''
  if (blank.kind === 'table') return <TableAsk blank={blank} text={text} give={give} />
  const shared = { label: blank.label, description: blank.about?.replaceAll('`', ''), value: text, required: true }
  const placeholder = words.inspector.forExample(blank.example)
  if (blank.kind === 'text')
    return (
      <Textarea
        {...shared}
        placeholder={placeholder}
        classNames={{ input: 'mono' }}
        autosize
        minRows={3}
        onChange={(event) => give(event.currentTarget.value)}
      />
    )
  const isAddress = blank.kind === 'address'
  return (
    <div>
      <TextInput
        {...shared}
        type={isAddress ? 'text' : 'url'}
        pattern={isAddress ? '0x[0-9a-fA-F]{40}' : undefined}
        title={isAddress ? said.isAddress : undefined}
        placeholder={isAddress ? undefined : placeholder}
        classNames={{ input: 'mono' }}
        onChange={(event) => give(event.currentTarget.value.trim())}
      />
      {isAddress && <OwnWallets address={text} pick={give} />}
    </div>
  )
}

function ConnectorAsk({ blank, answer, give, make }: AskProps) {
  const rows = useEveryOne('/v1/connectors').filter((one) => servesOneOf(one.type, blank.fits ?? []))
  return (
    <NamedAsk
      label={blank.label}
      none={said.later}
      rows={rows}
      answer={answer}
      give={give}
      make={make}
      makes={pages.connectors.create}
    />
  )
}

function WalletAsk({ blank, answer, give, make }: AskProps) {
  const wallets = useEveryOne('/v1/wallets')
  const usual = wallets.find((one) => one.isDefault)?.name
  const rows = wallets.map(({ id, name }) => ({ id, name, type: 'wallet' }))
  return (
    <NamedAsk
      label={blank.label}
      none={words.inspector.defaultWallet(usual)}
      rows={rows}
      answer={answer}
      give={give}
      make={make}
      makes={pages.wallets.create}
    />
  )
}

type NamedProps = Omit<AskProps, 'blank'> & {
  label: string
  none: string
  rows: (Named & { name: string })[]
  makes: string
}

function NamedAsk({ label, none, rows, answer, give, make, makes }: NamedProps) {
  return (
    <div>
      <NativeSelect
        label={label}
        value={typeof answer === 'object' ? answer.id : ''}
        data={[{ value: '', label: none }, ...rows.map((one) => ({ value: one.id, label: one.name }))]}
        onChange={(event) => give(rows.find((one) => one.id === event.currentTarget.value))}
      />
      <small className="quiet ownwallets">
        <button type="button" className="link" onClick={make}>
          {makes}
        </button>
      </small>
    </div>
  )
}

function TableAsk({ blank, text, give }: { blank: Blank; text: string; give: (value: string) => void }) {
  const names = useEveryOne('/v1/tables').map(({ name }) => name)
  const known = names.includes(blank.example) ? names : [blank.example, ...names]
  return (
    <NativeSelect
      label={blank.label}
      description={names.length ? blank.about?.replaceAll('`', '') : said.noTable}
      value={text || blank.example}
      data={known}
      onChange={(event) => give(event.currentTarget.value)}
    />
  )
}
