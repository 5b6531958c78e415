/** The one form of a template: what it cannot know. Nothing is made before the server finds it valid. */
import { NativeSelect, Textarea, TextInput } from '@mantine/core'
import { useState } from 'react'
import { post } from '../api/client'
import { useCatalog, useEveryOne } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { servesOneOf } from '../forms/fits'
import NewConnector from '../forms/NewConnector'
import NewWallet from '../forms/NewWallet'
import { OwnWallets } from '../inspector/OwnWallets'
import { type Blank, labelOf, valuesOf } from '../model/blanks'
import { words } from '../words'
import { pages } from '../words.pages'
import { templates as said } from '../words.templates'
import type { Asked } from './Templates'
import '../style/editor.css'

type Props = { asked: Asked; open: (id: string) => Promise<void>; close: () => void }
type Named = { type: string; id: string }

export default function Blanks({ asked, open, close }: Props) {
  const { name, description, definition, blanks } = asked
  const [answers, setAnswers] = useState<Record<string, string>>({})
  const [making, setMaking] = useState<string | null>(null)
  const catalog = useCatalog().data ?? {}
  const answer = (blank: string, value: string) => setAnswers((all) => ({ ...all, [blank]: value }))
  const make = async () => {
    const { id } = await post(
      '/v1/templates/{id}/use',
      { path: { id: asked.id } },
      { values: valuesOf(blanks, answers), keepExamples: false },
    )
    await open(id)
  }
  const made = blanks.find((one) => one.name === making)
  const take = ({ id }: Pick<Named, 'id'>) => making !== null && answer(making, id)
  return (
    <>
      <FormDialog title={name} go={said.make} close={close} act={make}>
        <p className="quiet">{description}</p>
        {blanks.map((blank) => (
          <Ask
            key={blank.name}
            blank={blank}
            label={labelOf(blank, definition, catalog)}
            answer={answers[blank.name] ?? ''}
            give={(value) => answer(blank.name, value)}
            make={() => setMaking(blank.name)}
          />
        ))}
      </FormDialog>
      {/* beside the form, not within it: sending one would send the other */}
      {made?.kind === 'connector' && <NewConnector kinds={made.fits} close={() => setMaking(null)} made={take} />}
      {made?.kind === 'wallet' && <NewWallet close={() => setMaking(null)} made={(id) => take({ id })} />}
    </>
  )
}

type AskProps = {
  blank: Blank
  label: string
  answer: string
  give: (value: string) => void
  make: () => void
}

function Ask(props: AskProps) {
  const { blank, label, answer, give } = props
  if (blank.kind === 'connector') return <ConnectorAsk {...props} />
  if (blank.kind === 'wallet') return <WalletAsk {...props} />
  if (blank.kind === 'table') return <TableAsk {...props} />
  const shared = { label, description: blank.about?.replaceAll('`', ''), value: answer, required: true }
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
      {isAddress && <OwnWallets address={answer} pick={give} />}
    </div>
  )
}

function ConnectorAsk({ blank, ...props }: AskProps) {
  const rows = useEveryOne('/v1/connectors').filter((one) => servesOneOf(one.type, blank.fits))
  return <NamedAsk {...props} none={said.later} rows={rows} makes={pages.connectors.create} />
}

function WalletAsk({ blank: _, ...props }: AskProps) {
  const rows = useEveryOne('/v1/wallets')
  const usual = rows.find((one) => one.isDefault)?.name
  return <NamedAsk {...props} none={words.inspector.defaultWallet(usual)} rows={rows} makes={pages.wallets.create} />
}

type NamedProps = Omit<AskProps, 'blank'> & {
  none: string
  rows: { id: string; name: string }[]
  makes: string
}

function NamedAsk({ label, none, rows, answer, give, make, makes }: NamedProps) {
  return (
    <div>
      <NativeSelect
        label={label}
        value={answer}
        data={[{ value: '', label: none }, ...rows.map((one) => ({ value: one.id, label: one.name }))]}
        onChange={(event) => give(event.currentTarget.value)}
      />
      <small className="quiet ownwallets">
        <button type="button" className="link" onClick={make}>
          {makes}
        </button>
      </small>
    </div>
  )
}

function TableAsk({ blank, label, answer, give }: AskProps) {
  const names = useEveryOne('/v1/tables').map(({ name }) => name)
  const known = names.includes(blank.example) ? names : [blank.example, ...names]
  return (
    <NativeSelect
      label={label}
      description={names.length ? blank.about?.replaceAll('`', '') : said.noTable}
      value={answer || blank.example}
      data={known}
      onChange={(event) => give(event.currentTarget.value)}
    />
  )
}
