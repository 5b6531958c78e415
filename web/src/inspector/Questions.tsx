/** The fields of a form, built by clicking; the input schema of the trigger is what they are. */
import { ActionIcon, Button, Checkbox, NativeSelect, TagsInput, TextInput } from '@mantine/core'
import { IconPlus, IconTrash } from '@tabler/icons-react'
import { type ReactNode, useState } from 'react'
import { SchemaForm } from '../forms/SchemaForm'
import { fieldsOf, type Texts } from '../forms/schema'
import {
  added,
  KINDS,
  type Kind,
  labelOf,
  ofKind,
  type Question,
  questionsOf,
  schemaOf,
  withAbout,
  withChoices,
  withLabel,
} from '../model/questions'
import { questions as said } from '../words.questions'

type Props = {
  schema: unknown
  change: (schema: unknown) => void
  /** A field got another name. */
  renamed: (from: string, to: string, schema: unknown) => void
  children: ReactNode
}

export function Questions({ schema, change, renamed, children }: Props) {
  const rows = questionsOf(schema)
  const put = (next: Question[]) => change(schemaOf(next, schema))
  const [texts, setTexts] = useState<Texts>({})
  if (!rows)
    return (
      <>
        <p className="quiet">{said.tooMuch}</p>
        {children}
      </>
    )
  const replace = (at: number, one: Question) => {
    const next = rows.map((old, i) => (i === at ? one : old))
    const before = rows[at]?.name
    if (before && before !== one.name) renamed(before, one.name, schemaOf(next, schema))
    else put(next)
  }
  return (
    <section className="questions" aria-label={said.title}>
      <div className="lab">{said.title}</div>
      <p className="quiet">{rows.length ? said.about : said.none}</p>
      {rows.map((one, i) => (
        <Row
          key={one.name}
          one={one}
          others={rows.filter((other) => other !== one).map(({ name }) => name)}
          change={(next) => replace(i, next)}
          remove={() => put(rows.filter((other) => other !== one))}
        />
      ))}
      <Button
        variant="default"
        size="xs"
        leftSection={<IconPlus size={14} />}
        onClick={() => put(added(rows, rows.length ? said.next : said.first))}
      >
        {said.add}
      </Button>
      {rows.length > 0 && (
        <details>
          <summary>{said.preview}</summary>
          <div className="fields preview">
            <SchemaForm fields={fieldsOf(schema as never)} texts={texts} set={setTexts} />
          </div>
        </details>
      )}
      <details>
        <summary>{said.json}</summary>
        {children}
      </details>
    </section>
  )
}

type RowProps = { one: Question; others: string[]; change: (one: Question) => void; remove: () => void }

function Row({ one, others, change, remove }: RowProps) {
  const label = labelOf(one)
  const [text, setText] = useState(label)
  const rename = () => {
    if (text.trim() && text !== label) change(withLabel(one, text.trim(), others))
    else setText(label)
  }
  return (
    <fieldset className="question" aria-label={label}>
      <div className="line">
        <TextInput
          aria-label={said.name}
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
          onBlur={rename}
          onKeyDown={(event) => event.key === 'Enter' && event.currentTarget.blur()}
        />
        <NativeSelect
          aria-label={said.kind}
          disabled={!one.kind}
          value={one.kind ?? ''}
          data={[
            ...(one.kind ? [] : [{ value: '', label: said.other }]),
            ...KINDS.map((value) => ({ value, label: said.kinds[value] })),
          ]}
          onChange={(event) => change(ofKind(one, event.currentTarget.value as Kind))}
        />
        <ActionIcon variant="subtle" color="gray" size={34} aria-label={said.remove(label)} onClick={remove}>
          <IconTrash size={16} />
        </ActionIcon>
      </div>
      {one.kind === 'choice' && (
        <TagsInput
          aria-label={said.choices}
          value={one.choices}
          onChange={(choices) => change(withChoices(one, choices))}
        />
      )}
      <TextInput
        aria-label={said.help}
        placeholder={said.help}
        value={one.about}
        onChange={(event) => change(withAbout(one, event.currentTarget.value))}
      />
      <div className="line">
        <Checkbox
          label={said.required}
          checked={one.isRequired}
          onChange={(event) => change({ ...one, isRequired: event.currentTarget.checked })}
        />
        <code>{said.use(one.name)}</code>
      </div>
    </fieldset>
  )
}
